// Proofs of a running `otpd dev`, verified by jose with exactly the code that docs/proofs.md shows.
// OTPD_ORIGIN and OTPD_API_KEY name the process; `run` sets them.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { after, before, test } from "node:test";

import { SignJWT, decodeJwt, decodeProtectedHeader, errors, exportJWK, exportSPKI, generateKeyPair, importJWK } from "jose";

const { OTPD_ORIGIN: origin, OTPD_API_KEY: apiKey, OTPD_PROOF_ALGORITHM: alg } = process.env;
const otherAlg = { EdDSA: "ES256", ES256: "EdDSA" }[alg];
const address = "Node.Proof+x@example.com";
const document = await readFile(new URL("../../docs/proofs.md", import.meta.url), "utf8");

let confirmed, proof, verified;

before(async () => {
  const made = await call("/v1/verifications", { email: address, purpose: "signup" });
  const [mail] = await call(`/dev/mails?to=${encodeURIComponent(address)}`);
  const [code] = mail.text.match(/\b\d{6}\b/);
  confirmed = await call(`/v1/verifications/${made.id}/check`, { code });
  proof = confirmed.proof;
  verified = await verifier(origin);
});

/** Returns the function `verified` of the document, with the keys of this origin. */
async function verifier(from) {
  const [, code] = /^```ts\n(.*?)^```$/ms.exec(document);
  const javascript = code
    .replaceAll(": string", "")
    .replace('"jose"', JSON.stringify(import.meta.resolve("jose")))
    .replace("https://otpd.example.com", from);
  return (await import(`data:text/javascript,${encodeURIComponent(javascript)}`)).verified;
}

async function call(path, body) {
  const headers = { Authorization: `Bearer ${apiKey}`, "Content-Type": "application/json" };
  const options = body && { method: "POST", headers, body: JSON.stringify(body) };
  const answer = await fetch(origin + path, options);
  assert(answer.ok, `${path}: ${answer.status}`);
  return answer.json();
}

/** Encodes a part of a JWT. */
const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

const signed = (claims, key, kid, header = {}) =>
  new SignJWT(claims).setProtectedHeader({ alg, typ: "otp-proof+jwt", kid, ...header }).sign(key);

test("a proof says what was confirmed", async () => {
  const claims = await verified(proof, "signup");
  const { iat } = claims;
  assert(Math.abs(Date.now() / 1000 - iat) < 60);
  const said = { purpose: "signup", method: "mail_code", jti: confirmed.id, iat, exp: iat + 300 };
  const expected = { iss: "otpd", aud: "dev", sub: address, ...said };
  assert.deepEqual({ ...claims }, expected);
  const { keys } = await call("/.well-known/jwks.json");
  assert.equal(keys.length, 1);
  assert.deepEqual({ ...decodeProtectedHeader(proof) }, { typ: "otp-proof+jwt", alg, kid: keys[0].kid });
});

test("another purpose is refused", () => assert.rejects(verified(proof, "password"), /purpose/));

test("a changed claim is refused", async () => {
  const [header, , signature] = proof.split(".");
  const changed = part({ ...decodeJwt(proof), sub: "another@example.com" });
  await assert.rejects(verified(`${header}.${changed}.${signature}`, "signup"), errors.JWSSignatureVerificationFailed);
});

test("a foreign key under the same kid is refused", async () => {
  const { privateKey } = await generateKeyPair(alg);
  const foreign = await signed(decodeJwt(proof), privateKey, decodeProtectedHeader(proof).kid);
  await assert.rejects(verified(foreign, "signup"), errors.JWSSignatureVerificationFailed);
});

test("another algorithm under the same kid is refused", async () => {
  const { privateKey } = await generateKeyPair(otherAlg);
  const { kid } = decodeProtectedHeader(proof);
  const foreign = await signed(decodeJwt(proof), privateKey, kid, { alg: otherAlg });
  await assert.rejects(verified(foreign, "signup"), errors.JWKSNoMatchingKey);
});

test("an unsigned proof is refused", async () => {
  const header = part({ ...decodeProtectedHeader(proof), alg: "none" });
  for (const signature of ["", proof.split(".")[2]]) {
    const unsigned = `${header}.${part(decodeJwt(proof))}.${signature}`;
    await assert.rejects(verified(unsigned, "signup"), errors.JOSEAlgNotAllowed);
  }
});

test("a proof keyed with the public key is refused", async () => {
  const { keys } = await call("/.well-known/jwks.json");
  const pem = await exportSPKI(await importJWK(keys[0], alg, { extractable: true }));
  const message = `${part({ ...decodeProtectedHeader(proof), alg: "HS256" })}.${part(decodeJwt(proof))}`;
  const [x, y] = [keys[0].x, keys[0].y ?? ""].map((coordinate) => Buffer.from(coordinate, "base64url"));
  const point = Buffer.concat([Buffer.of(4), x, y]);
  for (const secret of [x, point, pem, keys[0].x, JSON.stringify(keys[0])]) {
    const mac = createHmac("sha256", secret).update(message).digest("base64url");
    await assert.rejects(verified(`${message}.${mac}`, "signup"), errors.JOSEAlgNotAllowed);
  }
});

test("what a known key signed is refused for", async (context) => {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
  const keys = [{ ...(await exportJWK(publicKey)), kid: "t1", use: "sig", alg }];
  const server = createServer((_, answer) => answer.end(JSON.stringify({ keys })));
  await once(server.listen(0, "127.0.0.1"), "listening");
  context.after(() => server.close());
  const ofServer = await verifier(`http://127.0.0.1:${server.address().port}`);
  const claims = decodeJwt(proof);
  // Without a change the proof is valid, so it is rejected for nothing but the change.
  assert.deepEqual(await ofServer(await signed(claims, privateKey, "t1"), "signup"), claims);

  const refused = (name, change, header, error) =>
    context.test(name, async () => {
      const changed = await signed({ ...claims, ...change }, privateKey, "t1", header);
      await assert.rejects(ofServer(changed, "signup"), error);
    });
  const failed = (claim) => ({ code: "ERR_JWT_CLAIM_VALIDATION_FAILED", claim });
  await refused("its end", { exp: Math.floor(Date.now() / 1000) - 1 }, {}, errors.JWTExpired);
  await refused("its issuer", { iss: "another" }, {}, failed("iss"));
  await refused("its audience", { aud: "another" }, {}, failed("aud"));
  await refused("its type", {}, { typ: "JWT" }, failed("typ"));
  await refused("that it is of a test", { test: true }, {}, /test/);
  for (const claim of ["iss", "aud", "sub", "purpose", "jti", "exp"]) {
    await refused(`the absence of ${claim}`, { [claim]: undefined }, {}, failed(claim));
  }
});
