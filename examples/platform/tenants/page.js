// A tenant's code. It knows nothing of the platform.
export default {
  async fetch(request, env) {
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === "/outside") return fetch(searchParams.get("url"));
    return new Response(`${env.NAME} says hello\n`);
  },
};
