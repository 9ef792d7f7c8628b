// The page: plain modules, no build step.

const api = "/api/v1";
const at = (id) => document.getElementById(id);

async function call(path, options = {}) {
  const response = await fetch(api + path, options);
  at("budget").textContent = response.headers.get("x-budget-remaining") ?? "used up";
  const body = await response.json();
  if (!response.ok && response.status !== 429) throw new Error(body.error ?? response.statusText);
  return body;
}

const json = (method, body) => ({ method, headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

function say(id, text, bad = false) {
  at(id).textContent = text;
  at(id).classList.toggle("bad", bad);
}

/** Runs `work` when `form` is submitted; errors are shown in the browser's own bubble. */
function onSubmit(id, work) {
  at(id).addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.currentTarget;
    try {
      await work(new FormData(form), form);
    } catch (error) {
      alert(error.message);
    }
  });
}

function item(text, remove) {
  const li = document.createElement("li");
  li.append(text);
  if (remove) {
    const button = document.createElement("button");
    button.textContent = "×";
    button.ariaLabel = "Remove";
    button.addEventListener("click", remove);
    li.append(button);
  }
  return li;
}

// About: vars, version metadata, cron, text module.
async function about() {
  const { greeting, version, story, cron } = await call("/about");
  at("greeting").textContent = greeting;
  at("story").textContent = story;
  at("version").textContent = version.id.slice(0, 8);
  at("version").title = version.timestamp;
  at("cron").textContent = `${cron.runs} runs`;
  at("cron").title = cron.last ?? "not yet";
}

// Chat.
let socket;
function line({ who, text }) {
  const li = document.createElement("li");
  const name = document.createElement("b");
  name.textContent = who;
  li.append(name, text);
  at("lines").append(li);
  at("lines").scrollTop = at("lines").scrollHeight;
}
function connect(who) {
  socket?.close();
  const url = new URL(`${api}/rooms/lobby?who=${encodeURIComponent(who)}`, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  socket = new WebSocket(url);
  socket.who = who;
  socket.addEventListener("message", ({ data }) => line(JSON.parse(data)));
  // The server says 1012 when its code has been replaced.
  socket.addEventListener("close", ({ code, target }) => target === socket && code !== 1000 && setTimeout(() => connect(who), 500));
  return new Promise((resolve) => socket.addEventListener("open", resolve));
}
onSubmit("chat", async (data, form) => {
  const who = data.get("who") || "a bee";
  if (socket.who !== who || socket.readyState !== WebSocket.OPEN) await connect(who);
  socket.send(data.get("text"));
  form.elements.text.value = "";
});

// Notes.
async function notes() {
  const rows = await call("/notes");
  at("notes").replaceChildren(
    ...rows.map(({ id, text }) => item(text, () => call(`/notes/${id}`, { method: "DELETE" }).then(notes))),
  );
}
onSubmit("note", async (data, form) => {
  await call("/notes", json("POST", { text: data.get("text") }));
  form.reset();
  await notes();
});

// Files.
async function files() {
  const objects = await call("/files");
  at("files").replaceChildren(
    ...objects.map(({ key, size }) => {
      const link = document.createElement("a");
      link.href = `${api}/files/${encodeURIComponent(key)}`;
      link.textContent = `${key} (${size.toLocaleString()} bytes)`;
      return item(link, () => call(`/files/${encodeURIComponent(key)}`, { method: "DELETE" }).then(files));
    }),
  );
}
onSubmit("upload", async (data, form) => {
  const file = data.get("file");
  await call(`/files/${encodeURIComponent(file.name)}`, { method: "PUT", body: file });
  form.reset();
  await files();
});

// Theme.
function wear(theme) {
  document.documentElement.dataset.theme = theme;
  say("theme-out", `The hive wears ${theme}.`);
}
at("themes").addEventListener("click", async ({ target }) => {
  if (target.dataset.themeName) wear((await call("/settings", json("PUT", { theme: target.dataset.themeName }))).theme);
});

// Queue and Workflow: asked again until they are done.
async function until(done, ask) {
  for (let n = 0; n < 60; n++) {
    const state = await ask();
    if (done(state)) return state;
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  throw new Error("This takes too long");
}
onSubmit("job", async (data) => {
  const { id } = await call("/jobs", json("POST", { text: data.get("text") }));
  say("job-out", "queued…");
  const { result, batch } = await until(({ state }) => state === "done", () => call(`/jobs/${id}`));
  say("job-out", `${result} (in a batch of ${batch})`);
});

const buttons = {
  async harvest() {
    const { id } = await call("/harvest", { method: "POST" });
    say("harvest-out", "gathering…");
    const { output } = await until(({ status }) => status === "complete", () => call(`/harvest/${id}`));
    say("harvest-out", output);
  },
  async shout() {
    const { heard } = await call("/shout", { method: "POST" });
    say("shout-out", heard ? "Heard." : "Too loud: wait a little.", !heard);
  },
  async slow() {
    const start = performance.now();
    const { made, cached } = await call("/slow");
    const took = Math.round(performance.now() - start);
    say("slow-out", `${cached ? "from the cache" : "made anew"} in ${took} ms (${made.slice(11, 19)})`);
  },
  async census() {
    say("census-out", (await call("/census")).answer);
  },
};
document.addEventListener("click", ({ target }) => {
  const name = target.dataset?.run;
  if (name) buttons[name]().catch((error) => say(`${name}-out`, error.message, true));
});
onSubmit("square", async (data) => say("square-out", `${(await call(`/square/${data.get("n")}`)).square}`));

await Promise.all([
  about(),
  notes(),
  files(),
  call("/settings").then(({ theme }) => wear(theme)),
  call("/rooms/lobby/history").then((lines) => lines.forEach(line)),
  connect("Ada"),
]);
setInterval(() => about().catch(() => {}), 15_000);
