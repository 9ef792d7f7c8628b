// A secret of the Secrets Store: its value is got, and does not stand on `env`.
// https://developers.cloudflare.com/secrets-store/integrations/workers/
//
// A wrapped binding. Inner bindings: `name`, the secret's name; `value`, left out where it has none.

class SecretsStoreSecret {
  #name;
  #value;

  /** @param {string} name @param {string | undefined} value */
  constructor(name, value) {
    this.#name = name;
    this.#value = value;
  }

  /** @returns {Promise<string>} */
  async get() {
    if (this.#value === undefined) throw new Error(`Secret "${this.#name}" not found`);
    return this.#value;
  }
}

/** @param {{ name: string, value?: string }} env */
export default ({ name, value }) => new SecretsStoreSecret(name, value);
