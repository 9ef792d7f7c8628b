// Not every machine finds names below `localhost`.
import dns from "node:dns";

const lookup = dns.lookup;
dns.lookup = (name, options, callback) => {
  if (!name.endsWith("localhost")) return lookup(name, options, callback);
  return options.all ? callback(null, [{ address: "127.0.0.1", family: 4 }]) : callback(null, "127.0.0.1", 4);
};
