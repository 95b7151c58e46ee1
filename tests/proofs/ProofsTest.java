// Proofs of a running `otpd dev`, verified by JJWT with exactly the code that docs/proofs.md shows.
// OTPD_ORIGIN and OTPD_API_KEY name the process; `run --java` sets them and puts this file next to
// that code.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.net.httpserver.HttpServer;
import io.jsonwebtoken.JwtException;
import io.jsonwebtoken.Jwts;
import io.jsonwebtoken.security.Jwks;
import io.jsonwebtoken.security.SignatureAlgorithm;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.KeyPair;
import java.time.Instant;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public final class ProofsTest {
    private static final String ORIGIN = System.getenv("OTPD_ORIGIN");
    private static final String ALGORITHM = System.getenv("OTPD_PROOF_ALGORITHM");
    private static final String ADDRESS = "Java.Proof+x@example.com";
    private static final ObjectMapper JSON = new ObjectMapper();
    private static int passed = 0;
    private static int failed = 0;

    private interface Step {
        void run() throws Exception;
    }

    private static void test(String name, Step step) {
        try {
            step.run();
            passed++;
        } catch (Exception | AssertionError error) {
            failed++;
            System.out.println("FAILED " + name + ": " + error);
        }
    }

    private static JsonNode call(String path, Object body) throws Exception {
        var request = HttpRequest.newBuilder(URI.create(ORIGIN + path))
                .header("Authorization", "Bearer " + System.getenv("OTPD_API_KEY"))
                .header("Content-Type", "application/json");
        if (body != null) request.POST(HttpRequest.BodyPublishers.ofString(JSON.writeValueAsString(body)));
        var answer = HttpClient.newHttpClient().send(request.build(), HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() > 299) throw new AssertionError(path + ": " + answer.statusCode() + " " + answer.body());
        return JSON.readTree(answer.body());
    }

    private static SignatureAlgorithm signatures(String algorithm) {
        return algorithm.equals("EdDSA") ? Jwts.SIG.EdDSA : Jwts.SIG.ES256;
    }

    private static KeyPair newKeys(String algorithm) {
        // Without a curve, JJWT generates Ed448 keys.
        var edwards = Jwks.CRV.Ed25519.keyPair().build();
        return algorithm.equals("EdDSA") ? edwards : Jwts.SIG.ES256.keyPair().build();
    }

    private static String signed(Map<String, Object> claims, KeyPair keys, String algorithm, String kid, String type) {
        return Jwts.builder().header().keyId(kid).type(type).and().claims(claims)
                .signWith(keys.getPrivate(), signatures(algorithm)).compact();
    }

    private static Map<String, Object> with(Map<String, Object> claims, String name, Object value) {
        var changed = new LinkedHashMap<>(claims);
        if (value == null) changed.remove(name);
        else changed.put(name, value);
        return changed;
    }

    private static String part(byte[] bytes) {
        return Base64.getUrlEncoder().withoutPadding().encodeToString(bytes);
    }

    @SuppressWarnings("unchecked")
    private static Map<String, Object> decoded(String part) throws Exception {
        return JSON.readValue(Base64.getUrlDecoder().decode(part), Map.class);
    }

    private static void refused(Proofs proofs, String proof, String purpose) {
        try {
            proofs.verified(proof, purpose);
        } catch (JwtException | IllegalArgumentException expected) {
            return;
        }
        throw new AssertionError("taken: " + proof);
    }

    public static void main(String[] arguments) throws Exception {
        var id = call("/v1/verifications", Map.of("email", ADDRESS, "purpose", "signup")).get("id").asText();
        var email = call("/dev/mails?to=" + java.net.URLEncoder.encode(ADDRESS, "UTF-8"), null).get(0);
        var code = Pattern.compile("\\b\\d{6}\\b").matcher(email.get("text").asText());
        if (!code.find()) throw new AssertionError("no code");
        var proof = call("/v1/verifications/" + id + "/check", Map.of("code", code.group())).get("proof").asText();
        var parts = proof.split("\\.");
        var header = decoded(parts[0]);
        var claims = decoded(parts[1]);
        var kid = (String) header.get("kid");

        test("a proof says what was confirmed", () -> {
            var said = new Proofs().verified(proof, "signup");
            if (!said.getSubject().equals(ADDRESS) || !said.getId().equals(id) || !header.get("alg").equals(ALGORITHM))
                throw new AssertionError(said);
        });
        test("another purpose is refused", () -> refused(new Proofs(), proof, "password"));
        test("a changed claim is refused", () -> {
            var changed = part(JSON.writeValueAsBytes(with(claims, "sub", "another@example.com")));
            refused(new Proofs(), parts[0] + "." + changed + "." + parts[2], "signup");
        });
        for (var algorithm : List.of("EdDSA", "ES256")) {
            test("a foreign key under the same kid is refused, " + algorithm, () -> {
                var foreign = signed(claims, newKeys(algorithm), algorithm, kid, "otp-proof+jwt");
                refused(new Proofs(), foreign, "signup");
            });
        }
        test("an unsigned proof is refused", () -> {
            var unsigned = part(JSON.writeValueAsBytes(with(header, "alg", "none"))) + "." + parts[1] + ".";
            refused(new Proofs(), unsigned, "signup");
            refused(new Proofs(), unsigned + parts[2], "signup");
        });
        test("a proof keyed with the public key is refused", () -> {
            var message = part(JSON.writeValueAsBytes(with(header, "alg", "HS256"))) + "." + parts[1];
            var key = call("/.well-known/jwks.json", null).get("keys").get(0);
            for (var secret : List.of(key.get("x").asText().getBytes(), Base64.getUrlDecoder().decode(key.get("x").asText()))) {
                var mac = Mac.getInstance("HmacSHA256");
                mac.init(new SecretKeySpec(secret, "HmacSHA256"));
                refused(new Proofs(), message + "." + part(mac.doFinal(message.getBytes())), "signup");
            }
        });

        var keys = newKeys(ALGORITHM);
        var published = new LinkedHashMap<String, Object>(Jwks.builder().key(keys.getPublic()).id("t1").build());
        published.put("alg", ALGORITHM);
        var document = JSON.writeValueAsBytes(Map.of("keys", List.of(published)));
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        server.createContext("/", exchange -> {
            exchange.sendResponseHeaders(200, document.length);
            exchange.getResponseBody().write(document);
            exchange.close();
        });
        server.start();
        Proofs.KEYS = "http://127.0.0.1:" + server.getAddress().getPort();
        test("the same, signed by a known key, is good", () ->
                new Proofs().verified(signed(claims, keys, ALGORITHM, "t1", "otp-proof+jwt"), "signup"));
        test("another type is refused", () -> refused(new Proofs(), signed(claims, keys, ALGORITHM, "t1", "JWT"), "signup"));
        var changes = new LinkedHashMap<String, Object>();
        changes.put("exp", Instant.now().getEpochSecond() - 2);
        changes.put("iss", "another");
        changes.put("aud", "another");
        changes.put("test", true);
        changes.forEach((name, value) -> test("another " + name + " is refused", () ->
                refused(new Proofs(), signed(with(claims, name, value), keys, ALGORITHM, "t1", "otp-proof+jwt"), "signup")));
        for (var name : List.of("iss", "aud", "sub", "purpose", "jti", "exp")) {
            test("a proof without " + name + " is refused", () ->
                    refused(new Proofs(), signed(with(claims, name, null), keys, ALGORITHM, "t1", "otp-proof+jwt"), "signup"));
        }
        server.stop(0);
        System.out.println("java: " + passed + " passed, " + failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }
}
