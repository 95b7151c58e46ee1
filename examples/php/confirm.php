<?php // Confirms an address by the code that is emailed to it: php confirm.php ADDRESS
// OTPD_URL is otpd's URL, OTPD_API_KEY an API key. Generate the client from its OpenAPI document:
// openapi-generator-cli generate -g php -i $OTPD_URL/openapi.json -o otpd --additional-properties invokerPackage=Otpd
require 'GuzzleHttp/autoload.php';
spl_autoload_register(fn ($class) => require strtr($class, ['Otpd\\' => 'otpd/lib/', '\\' => '/']) . '.php');
Otpd\Configuration::getDefaultConfiguration()->setHost(getenv('OTPD_URL'))->setAccessToken(getenv('OTPD_API_KEY'));
$verifications = new Otpd\Api\VerificationsApi();
$id = $verifications->createVerification(new Otpd\Model\CreateVerificationRequest(['email' => $argv[1]]))->getId();
while (empty($approval)) {
    echo 'code: ';
    $check = new Otpd\Model\CheckVerificationRequest(['code' => trim(fgets(STDIN) ?: exit(1))]);
    try {
        $approval = $verifications->checkVerification($id, $check);
    } catch (Otpd\ApiException $error) {
        $problem = $error->getResponseObject();
        if ($problem?->getCode() !== 'invalid_code') throw $error;
        echo "{$problem->getCode()}, attempts_remaining: {$problem->getAttemptsRemaining()}\n";
    }
}

$decode = fn ($text) => sodium_base642bin($text, SODIUM_BASE64_VARIANT_URLSAFE_NO_PADDING);
foreach ((new Otpd\Api\ProofsApi())->proofKeys()->getKeys() as $key) $keys[$key->getKid()] = $decode($key->getX());
[$head, $claims, $signature] = explode('.', $approval->getProof());
[$header, $proof] = [json_decode($decode($head)), json_decode($decode($claims))];
$said = [$header->alg, $header->typ, $proof->iss, $proof->aud, $proof->jti, $proof->exp > time()];
$valid = $said === ['EdDSA', 'otp-proof+jwt', 'otpd', 'dev', $id, true] && isset($keys[$header->kid])
    && sodium_crypto_sign_verify_detached($decode($signature), "$head.$claims", $keys[$header->kid]);
if (!$valid) throw new Exception('not the proof of this verification');
echo "confirmed: $proof->sub\n";
