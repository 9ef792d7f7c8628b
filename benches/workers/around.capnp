# The worker on the engine alone, with bindings whose server answers at once: no binding server can be faster.
# The flags are those that Skep gives its cells.
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  v8Flags = ["--max-semi-space-size=1"],
  services = [
    (name = "app", worker = (
      modules = [(name = "worker.js", esModule = embed "worker.js")],
      bindings = [
        (name = "KV", kvNamespace = "backend"),
        (name = "BUCKET", r2Bucket = "backend"),
        (name = "DB", wrapped = (
          moduleName = "cloudflare-internal:d1-api",
          innerBindings = [(name = "fetcher", service = "backend")]))],
      compatibilityDate = "2026-11-01")),
    (name = "backend", external = (http = ()))],
  sockets = [(name = "http", http = (), service = "app")]);
