// Calls of the gateway's REST API. Decides how errors look; keeps no state.

export class ApiError extends Error {
  constructor(status, reason, message) {
    super(message);
    this.status = status;
    this.reason = reason;
  }

  // Whether the same call may succeed later: the server is away, busy or starting.
  get isPassing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

export async function call(method, path, body, headers = {}) {
  const options = { method, headers: { ...headers }, credentials: "same-origin" };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(`/api/v1${path}`, options);
  } catch {
    throw new ApiError(0, "UNREACHABLE", "The gateway does not answer.");
  }
  let content = {};
  try {
    content = await response.json();
  } catch {
    if (response.ok) throw new ApiError(0, "UNREADABLE", "The gateway's answer was cut off.");
  }
  if (response.ok) return content;
  const error = content.error ?? {};
  throw new ApiError(response.status, error.reason ?? "HTTP_ERROR",
    error.message ?? `The gateway answered ${response.status}.`);
}

export const get = (path) => call("GET", path);
export const post = (path, body, headers) => call("POST", path, body, headers);

// A page opened by a name that is not loopback has no randomUUID.
export function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
