// Proofs of a running `otpd dev`, verified by go-jose with exactly the code that docs/proofs.md
// shows.
// OTPD_ORIGIN and OTPD_API_KEY name the process; `run` sets them and puts this file next to that
// code.

package proofs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const address = "Go.Proof+x@example.com"

var (
	origin    = os.Getenv("OTPD_ORIGIN")
	algorithm = os.Getenv("OTPD_PROOF_ALGORITHM")
	other     = map[string]string{"EdDSA": "ES256", "ES256": "EdDSA"}[algorithm]
)

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func call(t *testing.T, method, path string, body, answer any) {
	t.Helper()
	sent, err := json.Marshal(body)
	fatal(t, err)
	request, err := http.NewRequest(method, origin+path, bytes.NewReader(sent))
	fatal(t, err)
	if body == nil {
		request.Body = nil
		request.ContentLength = 0
	}
	request.Header.Set("Authorization", "Bearer "+os.Getenv("OTPD_API_KEY"))
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	fatal(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	fatal(t, err)
	if response.StatusCode > 299 {
		t.Fatalf("%s: %d %s", path, response.StatusCode, text)
	}
	fatal(t, json.Unmarshal(text, answer))
}

var confirmedID, confirmedProof string

// Returns the id of a confirmed verification and its proof: one for all tests, because sends are
// limited.
func confirmed(t *testing.T) (id, proof string) {
	t.Helper()
	if confirmedProof != "" {
		return confirmedID, confirmedProof
	}
	var created struct{ ID string }
	call(t, "POST", "/v1/verifications", map[string]string{"email": address, "purpose": "signup"}, &created)
	var emails []struct{ Text string }
	call(t, "GET", "/dev/mails?to="+url.QueryEscape(address), nil, &emails)
	code := regexp.MustCompile(`\b\d{6}\b`).FindString(emails[0].Text)
	var checked struct{ Proof string }
	call(t, "POST", "/v1/verifications/"+created.ID+"/check", map[string]string{"code": code}, &checked)
	confirmedID, confirmedProof = created.ID, checked.Proof
	return confirmedID, confirmedProof
}

func part(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func decoded(t *testing.T, part string) map[string]any {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(part)
	fatal(t, err)
	values := map[string]any{}
	fatal(t, json.Unmarshal(text, &values))
	return values
}

func claimsOf(t *testing.T, proof string) map[string]any {
	return decoded(t, strings.Split(proof, ".")[1])
}

func headerOf(t *testing.T, proof string) map[string]any {
	return decoded(t, strings.Split(proof, ".")[0])
}

// Returns a copy with this change; nil removes the claim.
func changed(values map[string]any, name string, value any) map[string]any {
	copied := map[string]any{name: value}
	for known, old := range values {
		if known != name {
			copied[known] = old
		}
	}
	if value == nil {
		delete(copied, name)
	}
	return copied
}

func newKey(t *testing.T, algorithm string) (private, public any) {
	t.Helper()
	if algorithm == "EdDSA" {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		fatal(t, err)
		return private, public
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(t, err)
	return key, &key.PublicKey
}

func signed(t *testing.T, claims map[string]any, key any, algorithm, kid, kind string) string {
	t.Helper()
	options := (&jose.SignerOptions{}).WithHeader("kid", kid).WithHeader("typ", kind)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(algorithm), Key: key}, options)
	fatal(t, err)
	text, err := json.Marshal(claims)
	fatal(t, err)
	signature, err := signer.Sign(text)
	fatal(t, err)
	proof, err := signature.CompactSerialize()
	fatal(t, err)
	return proof
}

func refused(t *testing.T, proof, purpose string) {
	t.Helper()
	if claims, err := (&Verifier{}).Verified(proof, purpose); err == nil {
		t.Fatalf("taken: %v", claims)
	}
}

func TestAProofSaysWhatWasConfirmed(t *testing.T) {
	id, proof := confirmed(t)
	claims, err := (&Verifier{}).Verified(proof, "signup")
	fatal(t, err)
	if claims.Subject != address || claims.ID != id || claims.Expiry.Time().Sub(claims.IssuedAt.Time()) != 300*time.Second {
		t.Fatal(claims)
	}
	if headerOf(t, proof)["alg"] != algorithm {
		t.Fatal(proof)
	}
}

func TestAnotherPurposeIsRefused(t *testing.T) {
	_, proof := confirmed(t)
	refused(t, proof, "password")
}

func TestAChangedClaimIsRefused(t *testing.T) {
	_, proof := confirmed(t)
	parts := strings.Split(proof, ".")
	refused(t, parts[0]+"."+part(changed(claimsOf(t, proof), "sub", "another@example.com"))+"."+parts[2], "signup")
}

func TestAForeignKeyUnderTheSameKidIsRefused(t *testing.T) {
	_, proof := confirmed(t)
	kid := headerOf(t, proof)["kid"].(string)
	for _, algorithm := range []string{algorithm, other} {
		private, _ := newKey(t, algorithm)
		refused(t, signed(t, claimsOf(t, proof), private, algorithm, kid, "otp-proof+jwt"), "signup")
	}
}

func TestAnUnsignedProofIsRefused(t *testing.T) {
	_, proof := confirmed(t)
	parts := strings.Split(proof, ".")
	header := part(changed(headerOf(t, proof), "alg", "none"))
	refused(t, header+"."+parts[1]+".", "signup")
	refused(t, header+"."+parts[1]+"."+parts[2], "signup")
}

func TestAProofKeyedWithThePublicKeyIsRefused(t *testing.T) {
	_, proof := confirmed(t)
	var document struct{ Keys []map[string]string }
	call(t, "GET", "/.well-known/jwks.json", nil, &document)
	x, err := base64.RawURLEncoding.DecodeString(document.Keys[0]["x"])
	fatal(t, err)
	y, err := base64.RawURLEncoding.DecodeString(document.Keys[0]["y"])
	fatal(t, err)
	message := part(changed(headerOf(t, proof), "alg", "HS256")) + "." + strings.Split(proof, ".")[1]
	for _, secret := range [][]byte{x, append(append([]byte{4}, x...), y...), []byte(document.Keys[0]["x"])} {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(message))
		refused(t, message+"."+base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), "signup")
	}
}

func TestWhatAKnownKeySignedIsRefusedFor(t *testing.T) {
	_, proof := confirmed(t)
	private, public := newKey(t, algorithm)
	keys := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: public, KeyID: "t1", Use: "sig", Algorithm: algorithm}}}
	server := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(answer).Encode(keys); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	published := keysURL
	keysURL = server.URL
	defer func() { keysURL = published }()

	claims := claimsOf(t, proof)
	// Without a change the proof is valid, so it is rejected for nothing but the change.
	_, err := (&Verifier{}).Verified(signed(t, claims, private, algorithm, "t1", "otp-proof+jwt"), "signup")
	fatal(t, err)
	refused(t, signed(t, claims, private, algorithm, "t1", "JWT"), "signup")
	changes := map[string]any{"exp": time.Now().Add(-2 * time.Second).Unix(), "iss": "another", "aud": "another", "test": true}
	for name, value := range changes {
		refused(t, signed(t, changed(claims, name, value), private, algorithm, "t1", "otp-proof+jwt"), "signup")
	}
	for _, name := range []string{"iss", "aud", "sub", "purpose", "jti", "exp"} {
		t.Run("without "+name, func(t *testing.T) {
			refused(t, signed(t, changed(claims, name, nil), private, algorithm, "t1", "otp-proof+jwt"), "signup")
		})
	}
}
