# Confirms an address by the code that is emailed to it: ruby -I otpd/lib confirm.rb ADDRESS
# OTPD_URL is otpd's URL, OTPD_API_KEY an API key. Generate the client from its OpenAPI document:
# openapi-generator-cli generate -g ruby -i $OTPD_URL/openapi.json -o otpd --additional-properties gemName=otpd
require "jwt"
require "otpd"
require "rbnacl"

$stdout.sync = true
config = Otpd::Configuration.default
config.scheme, config.host = ENV.fetch("OTPD_URL").split("://")
config.access_token = ENV.fetch("OTPD_API_KEY")
verifications = Otpd::VerificationsApi.new
verification = verifications.create_verification(Otpd::CreateVerificationRequest.new(email: ARGV.fetch(0)))
begin
  print "code: "
  code = Otpd::CheckVerificationRequest.new(code: $stdin.gets.chomp)
  approval = verifications.check_verification(verification.id, code)
rescue Otpd::ApiError => error
  problem = Otpd::Problem.build_from_hash(JSON.parse(error.response_body))
  abort problem.detail unless problem.code == "invalid_code"
  puts "#{problem.code}, attempts_remaining: #{problem.attempts_remaining}"
  retry
end

keys = Otpd::ProofsApi.new.proof_keys.keys.to_h { |k| [k.kid, RbNaCl::VerifyKey.new(Base64.urlsafe_decode64(k.x))] }
rules = { algorithm: "EdDSA", iss: "otpd", verify_iss: true, aud: "dev", verify_aud: true }
proof, header = JWT.decode(approval.proof, nil, true, rules) { |header| keys[header["kid"]] }
abort "not the proof of this verification" unless [header["typ"], proof["jti"]] == ["otp-proof+jwt", verification.id]
puts "confirmed: #{proof["sub"]}"
