resource "juju_application" "concourse" {
  name       = var.app_name
  model_uuid = var.model_uuid

  charm {
    name     = "concourse-ci-machine"
    base     = var.base
    channel  = var.channel
    revision = var.revision
  }

  config             = var.config
  constraints        = var.constraints
  machines           = var.machines
  resources          = var.resources
  storage_directives = var.storage_directives
  units              = var.machines == null ? var.units : null

  dynamic "expose" {
    for_each = var.expose ? [true] : []
    content {}
  }
}
