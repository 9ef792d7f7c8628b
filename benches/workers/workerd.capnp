# The least configuration that runs the worker on the engine alone.
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "app", worker = (
    modules = [(name = "worker.js", esModule = embed "worker.js")],
    compatibilityDate = "2026-11-01"))],
  sockets = [(name = "http", http = (cfBlobHeader = "X-Skep-CF", forwardedProtoHeader = "X-Skep-Proto"), service = "app")]);
