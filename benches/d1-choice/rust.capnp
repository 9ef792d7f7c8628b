# SQLite in Rust, over a unix socket, as Skep's cells have it.
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "app", worker = (
      modules = [(name = "worker.js", esModule = embed "worker.js")],
      compatibilityDate = "2026-08-01",
      bindings = [(name = "DB", wrapped = (moduleName = "cloudflare-internal:d1-api",
        innerBindings = [(name = "fetcher", service = "d1")]))])),
    (name = "d1", external = (address = "unix:state/d1.sock", http = ()))],
  sockets = [(name = "http", address = "127.0.0.1:18712", http = (), service = "app")]);
