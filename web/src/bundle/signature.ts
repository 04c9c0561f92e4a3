/** Ed25519 signatures of bundle.json (spec/bundle.md, Signature), by the browser's own cryptography. */

import { BrowserError, BundleInvalid, SignatureError } from "../errors.js";
import { joined } from "../images/plainjpeg.js";
import { choice, parse, table, text } from "./strictjson.js";

const PREFIX = new TextEncoder().encode("samesight-bundle-signature-v1\n");
const PUBLIC = "samesight-ed25519-public ";

/**
 * Hold bundle.json to the signature in bundle.sig and to the trusted key, a line as in a KEY.pub file.
 *
 * Throws SignatureError where it is not signed, by another key, or does not fit; BundleInvalid where bundle.sig
 * is malformed; BrowserError where the browser knows no Ed25519.
 */
export async function checkSignature(
  document: Uint8Array,
  signature: Uint8Array | null,
  trust: string,
): Promise<void> {
  if (signature === null) throw new SignatureError("the bundle is not signed", { expected: "bundle.sig" });
  const trusted = trust.trim().startsWith(PUBLIC) ? trust.trim().slice(PUBLIC.length) : "";
  if (bytes(trusted)?.length !== 32) {
    throw new SignatureError("the trusted key is not a public key", { expected: `${PUBLIC}BASE64` });
  }
  const found = table(parse(signature, "bundle.sig"), "bundle.sig", ["algorithm", "public_key", "signature"]);
  choice(found["algorithm"], "bundle.sig algorithm", ["ed25519"]);
  const signer = text(found["public_key"], "bundle.sig public_key", 100);
  const proof = bytes(text(found["signature"], "bundle.sig signature", 200));
  if (bytes(signer)?.length !== 32 || proof?.length !== 64) {
    throw new BundleInvalid("a signature is malformed", { where: "bundle.sig" });
  }
  if (signer !== trusted) {
    throw new SignatureError("the bundle is signed by another key", { expected: trusted, found: signer });
  }
  if (!(await verifies(bytes(trusted)!, proof, joined([PREFIX, document])))) {
    throw new SignatureError("the signature does not fit bundle.json", { where: "bundle.sig" });
  }
}

async function verifies(key: Uint8Array, proof: Uint8Array, message: Uint8Array): Promise<boolean> {
  try {
    const imported = await crypto.subtle.importKey("raw", key as BufferSource, "Ed25519", false, ["verify"]);
    return await crypto.subtle.verify("Ed25519", imported, proof as BufferSource, message as BufferSource);
  } catch (error) {
    throw new BrowserError("this browser cannot check signatures", {
      expected: "Ed25519 in crypto.subtle",
      found: error instanceof Error ? error.message : String(error),
    });
  }
}

/** The bytes that `base64` stands for; null where it is not base64 of RFC 4648. */
function bytes(base64: string): Uint8Array | null {
  try {
    const found = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    return btoa(String.fromCharCode(...found)) === base64 ? found : null;
  } catch {
    return null;
  }
}
