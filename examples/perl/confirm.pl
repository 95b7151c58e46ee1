# Confirms an address by the code that is mailed to it: perl confirm.pl ADDRESS
# OTPD_URL is where otpd answers, OTPD_API_KEY the key of a tenant. OpenAPI::Client makes the client from the service's
# own document as the program starts: one method for each operation.
use Mojo::Base -strict;
use Crypt::JWT 'decode_jwt';
use OpenAPI::Client;

$| = 1;
my $client = OpenAPI::Client->new("$ENV{OTPD_URL}/openapi.json", base_url => $ENV{OTPD_URL});
$client->on(after_build_tx => sub { $_[1]->req->headers->authorization("Bearer $ENV{OTPD_API_KEY}") });

my $verification = $client->createVerification({}, json => {email => $ARGV[0]})->result->json;
my $id = $verification->{id} // die $verification->{detail};
my $answer = {};
until ($answer->{proof}) {
  print 'code: ';
  chomp(my $code = <STDIN>);
  $answer = $client->checkVerification({id => $id}, json => {code => $code})->result->json;
  next unless my $problem = $answer->{code};
  die $answer->{detail} unless $problem eq 'invalid_code';
  say "$problem, attempts_remaining: $answer->{attempts_remaining}";
}

my ($header, $proof) = decode_jwt(token => $answer->{proof}, kid_keys => $client->proofKeys->result->json,
  accepted_alg => 'EdDSA', decode_header => 1, verify_iss => 'otpd', verify_aud => 'dev', verify_jti => $id);
die 'a token, but not a proof' unless $header->{typ} eq 'otp-proof+jwt';
say "confirmed: $proof->{sub}";
