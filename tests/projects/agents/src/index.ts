import { Agent, routeAgentRequest } from "agents";

interface State {
  words: string[];
}

/** An agent whose state every connected client sees. */
export class Board extends Agent<Cloudflare.Env, State> {
  initialState: State = { words: [] };

  onMessage(_connection: unknown, message: string) {
    this.setState({ words: [...this.state.words, message] });
  }

  onRequest() {
    return Response.json(this.state);
  }
}

export default {
  async fetch(request: Request, env: Cloudflare.Env) {
    return (await routeAgentRequest(request, env)) ?? new Response("Not found", { status: 404 });
  },
};
