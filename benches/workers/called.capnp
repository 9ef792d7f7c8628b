# An engine alone that is asked directly, and by the engine of `calling.capnp`; and a second worker in it, which asks the first one
# without leaving the process. The flags are those that Skep gives its cells.
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  v8Flags = ["--max-semi-space-size=1"],
  services = [
    (name = "app", worker = (
      modules = [(name = "worker.js", esModule = "export default { fetch() { return new Response('ok', { status: 200 }); } };")],
      compatibilityDate = "2026-07-01")),
    (name = "beside", worker = (
      modules = [(name = "worker.js", esModule = "export default { fetch(request, env) { return env.OTHER.fetch(request); } };")],
      bindings = [(name = "OTHER", service = "app")],
      compatibilityDate = "2026-07-01"))],
  sockets = [
    (name = "http", http = (), service = "app"),
    (name = "inner", http = (), service = "app"),
    (name = "beside", http = (), service = "beside")]);
