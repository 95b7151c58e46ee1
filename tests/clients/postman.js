// The Postman collection that is generated from the OpenAPI document, run by newman.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { promisify } from "node:util";

/**
 * The requests in order: the name in the collection, the values to fill in, and the expected
 * answer.
 */
const STEPS = [
  { call: "GET /livez", status: 200, says: { status: "ok" } },
  { call: "GET /readyz", status: 200, says: { status: "ok" } },

  { call: "POST /v1/verifications", body: { email: "postman@example.com" }, status: 201, says: { status: "pending" } },
  {
    call: "POST /v1/verifications/:id/check",
    mailedTo: "postman@example.com",
    body: { code: "{{wrongCode}}" },
    status: 422,
    says: { code: "invalid_code", attempts_remaining: 4 },
  },
  {
    call: "POST /v1/verifications/:id/check",
    mailedTo: "postman@example.com",
    body: { code: "{{code}}" },
    status: 200,
    says: { status: "approved" },
  },
  { call: "GET /v1/verifications/:id", status: 200, says: { status: "approved" } },

  { call: "POST /v1/verifications", body: { email: "canceled@example.com" }, status: 201, says: { status: "pending" } },
  { call: "DELETE /v1/verifications/:id", status: 204 },
  { call: "GET /v1/verifications/:id", status: 200, says: { status: "canceled" } },

  { call: "GET /.well-known/jwks.json", status: 200 },

  {
    call: "POST /send-otp",
    body: { email: "simple@example.com" },
    status: 200,
    says: { message: "OTP sent successfully" },
  },
  {
    call: "POST /verify-otp",
    mailedTo: "simple@example.com",
    body: { email: "simple@example.com", otp: "{{code}}" },
    status: 200,
    says: { message: "OTP verified successfully" },
  },
];

/**
 * Generates the collection, runs it, and returns how many assertions passed and how many failed.
 */
export async function playCollection(state, spec, { origin, key }) {
  // Both are CommonJS modules, installed in the state folder.
  const require = createRequire(`${state}/`);
  const converter = require("openapi-to-postmanv2");
  const newman = require("newman");

  const made = await promisify(converter.convertV2)({ type: "json", data: spec }, { parametersResolution: "Example" });
  assert(made.result, made.reason);
  const collection = made.output[0].data;
  const requests = new Map(leaves(collection).map((item) => [callOf(item.request), item]));
  collection.item = STEPS.map((step) => {
    assert(requests.has(step.call), `${step.call} is in the collection: ${[...requests.keys()].join(", ")}`);
    return fillIn(structuredClone(requests.get(step.call)), step, documented(spec, step));
  });

  const envVar = Object.entries({ baseUrl: origin, bearerToken: key }).map(([key, value]) => ({ key, value }));
  const { run } = await promisify(newman.run)({ collection, envVar, reporters: "cli", color: "off" });
  assert.equal(run.stats.items.total, STEPS.length);
  // The failures include a request without an answer and a script that threw; neither is an
  // assertion.
  const { total, failed } = run.stats.assertions;
  return { passed: total - failed, failed: run.failures.length };
}

/** Returns the requests of a folder and its subfolders. */
function leaves(folder) {
  return folder.item.flatMap((item) => (item.item ? leaves(item) : [item]));
}

/** Returns the method and the path of a request. */
function callOf({ method, url }) {
  return `${method} /${url.path.join("/")}`;
}

/**
 * Returns the media type and the schema of a step's answer in the document; undefined if it has no
 * body.
 */
function documented(spec, { call, status }) {
  const [method, path] = call.split(" ");
  const operation = spec.paths[path.replace(/:(\w+)/g, "{$1}")][method.toLowerCase()];
  const [[type, { schema }] = [undefined, {}]] = Object.entries(operation.responses[status].content ?? {});
  // The schema refers to others by their path in the document.
  return type && { type, schema: { allOf: [schema], components: spec.components } };
}

/** Fills in a request and adds the scripts that run before and after it. */
function fillIn(item, { call, body, mailedTo, status, says = {} }, documented) {
  const { request } = item;
  item.name = call;
  for (const variable of request.url.variable) variable.value = `{{${variable.key}}}`;
  for (const header of request.header) if (header.key === "Idempotency-Key") header.value = "{{$guid}}";
  if (body) request.body.raw = JSON.stringify({ ...JSON.parse(request.body.raw), ...body });
  const script = (listen, run, ...given) => ({
    listen,
    script: { type: "text/javascript", exec: [`(${run})(...${JSON.stringify(given)});`] },
  });
  item.event = [script("test", judge, status, documented ?? null, says)];
  if (mailedTo) item.event.push(script("prerequest", readMail, mailedTo));
  return item;
}

/* The following functions run in newman's sandbox, whose `pm` is the current request. */
/* global pm */

/** Reads the code in the newest captured mail to an address. */
function readMail(address) {
  pm.sendRequest(`${pm.variables.get("baseUrl")}/dev/mails?to=${encodeURIComponent(address)}`, (error, answer) => {
    if (error) throw error;
    const [code] = /\b\d{6}\b/.exec(answer.json()[0].text);
    pm.variables.set("code", code);
    pm.variables.set("wrongCode", code.replace(/\d$/, (digit) => (Number(digit) + 1) % 10));
  });
}

/** Checks an answer against the document and against what the step expects. */
function judge(status, documented, says) {
  pm.test(`it is answered with ${status}`, () => pm.response.to.have.status(status));
  if (!documented) {
    pm.test("it has no body", () => pm.expect(pm.response.text()).to.equal(""));
    return;
  }
  const { type, schema } = documented;
  const essence = (text) => text.split(";")[0];
  pm.test(`its type is ${essence(type)}`, () => {
    pm.expect(essence(pm.response.headers.get("Content-Type"))).to.equal(essence(type));
  });
  // The number formats of OpenAPI are not formats of JSON Schema.
  pm.test("its body is as documented", () => pm.response.to.have.jsonSchema(schema, { unknownFormats: "ignore" }));
  for (const [member, value] of Object.entries(says)) {
    pm.test(`${member} is ${value}`, () => pm.expect(pm.response.json()[member]).to.equal(value));
  }
  if (status === 201) pm.environment.set("id", pm.response.json().id);
}
