variable "app_name" {
  description = "Name of the application in the model."
  type        = string
  default     = "concourse-ci-machine"
}

variable "base" {
  description = "Operating system of the units' machines."
  type        = string
  default     = "ubuntu@22.04"

  validation {
    condition     = contains(["ubuntu@22.04", "ubuntu@24.04", "ubuntu@26.04"], var.base)
    error_message = "The charm is packed for ubuntu@22.04, ubuntu@24.04 and ubuntu@26.04."
  }
}

variable "channel" {
  description = "Charmhub channel, such as latest/edge; the charm's default one if null."
  type        = string
  default     = null
}

variable "config" {
  description = "Charm options by name; docs/reference/options.md lists them."
  type        = map(string)
  default     = {}
}

variable "constraints" {
  description = "Juju constraints of the machines, such as \"arch=amd64 tags=gpu\"; the model's if null."
  type        = string
  default     = null
}

variable "expose" {
  description = "Whether the web's ports are opened to the outside of the cloud."
  type        = bool
  default     = false
}

variable "machines" {
  description = "Ids of existing machines, one unit each, in place of units."
  type        = set(string)
  default     = null
}

variable "model_uuid" {
  description = "UUID of the model to deploy into."
  type        = string
}

variable "resources" {
  description = "Revision of the resource concourse on Charmhub; without it the release is downloaded."
  type        = map(string)
  default     = {}
}

variable "revision" {
  description = "Revision of the charm; the channel's newest if null."
  type        = number
  default     = null
}

variable "storage_directives" {
  description = "Storage by name, such as { concourse-data = \"200G\" }; a worker's volumes."
  type        = map(string)
  default     = {}
}

variable "units" {
  description = "How many units to deploy; not used where machines is set."
  type        = number
  default     = 1
}
