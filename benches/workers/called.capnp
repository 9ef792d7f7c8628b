# An engine alone that is asked directly, and by the engine of `calling.capnp`. The flags are those that Skep gives its cells.
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  v8Flags = ["--max-semi-space-size=1"],
  services = [(name = "app", worker = (
    modules = [(name = "worker.js", esModule = "export default { fetch() { return new Response('ok', { status: 200 }); } };")],
    compatibilityDate = "2026-07-01"))],
  sockets = [
    (name = "http", http = (), service = "app"),
    (name = "inner", http = (), service = "app")]);
