# The engine's own D1: a Durable Object in the same process. Needs --experimental.
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "app", worker = (
      modules = [(name = "worker.js", esModule = embed "worker.js")],
      compatibilityDate = "2026-08-01",
      bindings = [(name = "DB", wrapped = (moduleName = "cloudflare-internal:d1-api",
        innerBindings = [(name = "fetcher", service = (name = "d1", props = (json = "{\"database\":\"bench\"}")))]))])),
    (name = "d1", worker = (
      modules = [(name = "d1.js", bundled = "/workerd/d1.js")],
      compatibilityDate = "2026-08-01",
      durableObjectNamespaces = [(className = "D1Database", uniqueKey = "d1-choice", enableSql = true)],
      durableObjectStorage = (localDisk = "disk"),
      bindings = [(name = "DATABASE", durableObjectNamespace = "D1Database")])),
    (name = "disk", disk = (path = "state", writable = true))],
  sockets = [(name = "http", address = "127.0.0.1:18711", http = (), service = "app")]);
