// Who is signed in, and calls of the node's API in that name. The cookie of the session is out of reach of this page; the node
// wants the session's CSRF token beside it.
"use strict";

/** { keyId, expiresAt, csrfToken }, or null when no administrator is signed in. */
let session = null;
/** Whether the node shows its figures to this browser. */
let figures = false;
/** What happens when a session begins or ends; the dashboard says. */
let sessionChanged = () => {};

const csrf = () => session ? { "x-csrf-token": session.csrfToken } : {};

async function askSession() {
  const answer = await fetch("/dashboard/session", { cache: "no-store" });
  if (!answer.ok) throw new Error("the node answers " + answer.status);
  ({ session, figures } = await answer.json());
}

/** What an answer says went wrong. */
async function refusal(answer) {
  const problem = await answer.json().catch(() => ({}));
  return problem.detail ?? problem.title ?? "the node answers " + answer.status;
}

/** Begins a session; returns what went wrong, or "". */
async function signIn(key) {
  let answer;
  try {
    answer = await fetch("/dashboard/sign-in", { method: "POST", headers: { authorization: "Bearer " + key } });
  } catch {
    // Also for a key with signs that no header field can have.
    return "The node did not answer, or the key has signs that no key has.";
  }
  if (answer.status === 401 || answer.status === 403) return "This key is not an administrator's.";
  if (answer.status === 429) return `There were too many attempts. Try again in ${answer.headers.get("retry-after")} seconds.`;
  if (!answer.ok) return await refusal(answer);
  ({ session } = await answer.json());
  figures = true;
  sessionChanged("");
  return "";
}

/** Ends the session on the node; returns what went wrong, or "". */
async function signOut() {
  try {
    const answer = await inSession(() => fetch("/dashboard/sign-out", { method: "POST", headers: csrf() }));
    if (!answer.ok) return "The node did not end the session: " + await refusal(answer);
    await askSession();
  } catch (error) {
    return "The node did not end the session: " + error.message;
  }
  sessionChanged("");
  return "";
}

/** Sends a request. If another tab has signed in anew meanwhile, this browser has another session, and the request goes again. */
async function inSession(send) {
  const answer = await send();
  if (answer.status !== 401 && answer.status !== 403) return answer;
  const token = session?.csrfToken;
  await askSession();
  return session && session.csrfToken !== token ? send() : answer;
}

/** A call of the API; throws what went wrong as a sentence for people. */
async function call(method, path, body) {
  const type = body ? { "content-type": "application/json" } : {};
  const answer = await inSession(() => fetch(path, { method, headers: { ...csrf(), ...type }, body: body && JSON.stringify(body), cache: "no-store" }));
  if (!answer.ok && !session) {
    sessionChanged("The session has ended. Sign in again.");
    throw new Error("the session has ended");
  }
  if (!answer.ok) throw new Error(await refusal(answer));
  return answer.json();
}
