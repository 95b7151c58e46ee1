// Confirms an address by the code that is emailed to it: node confirm.js ADDRESS
// OTPD_URL is otpd's URL, OTPD_API_KEY an API key. Generate the types from its OpenAPI document:
// openapi-typescript $OTPD_URL/openapi.json --output otpd.ts
import { createInterface } from "node:readline/promises";
import { createRemoteJWKSet, jwtVerify } from "jose";
import createClient from "openapi-fetch";
import type { paths } from "./otpd.js";

const { OTPD_URL: baseUrl, OTPD_API_KEY: key } = process.env;
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } });
const keyboard = createInterface(process.stdin, process.stdout);

const { data: verification, error } = await client.POST("/v1/verifications", { body: { email: process.argv[2] } });
if (error) throw new Error(error.detail);
let approval;
while (!approval) {
  const check = { params: { path: { id: verification.id } }, body: { code: await keyboard.question("code: ") } };
  const { data, error } = await client.POST("/v1/verifications/{id}/check", check);
  if (error?.code === "invalid_code") console.log(`${error.code}, attempts_remaining: ${error.attempts_remaining}`);
  else if (error) throw new Error(error.detail);
  approval = data;
}
keyboard.close();

const keys = createRemoteJWKSet(new URL("/.well-known/jwks.json", baseUrl));
const rules = { algorithms: ["EdDSA"], typ: "otp-proof+jwt", issuer: "otpd", audience: "dev" };
const { payload: proof } = await jwtVerify(approval.proof!, keys, rules);
if (proof.jti !== verification.id) throw new Error("the proof of another verification");
console.log(`confirmed: ${proof.sub}`);
