# A dispatcher on the engine alone: it passes each request on to the engine of `called.capnp`, with nothing in between.
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  v8Flags = ["--max-semi-space-size=1"],
  services = [
    (name = "app", worker = (
      modules = [(name = "worker.js", esModule = "export default { fetch(request, env) { return env.OTHER.fetch(request); } };")],
      bindings = [(name = "OTHER", service = "other")],
      compatibilityDate = "2026-07-01")),
    (name = "other", external = (http = ()))],
  sockets = [(name = "http", http = (), service = "app")]);
