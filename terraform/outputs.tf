output "app_name" {
  description = "Name of the application."
  value       = juju_application.concourse.name
}

output "application" {
  description = "The juju_application, with everything that the provider knows of it."
  value       = juju_application.concourse
}

output "provides" {
  description = "Endpoints that other applications can require."
  value = {
    web_tsa = "web-tsa"
  }
}

output "requires" {
  description = "Endpoints that other applications can provide."
  value = {
    certificates = "certificates"
    database     = "database"
    postgresql   = "postgresql"
    worker_tsa   = "worker-tsa"
  }
}

output "endpoints" {
  description = "All endpoints: provides and requires together."
  value = {
    certificates = "certificates"
    database     = "database"
    postgresql   = "postgresql"
    web_tsa      = "web-tsa"
    worker_tsa   = "worker-tsa"
  }
}
