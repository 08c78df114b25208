# Lists a server's experts and streams one answer. build.sh says how it is built and run.

require 'securerandom'
require 'grpc'
require 'google/protobuf/well_known_types'
require 'google/rpc/error_details_pb'
require 'ccoe/v1/catalog_service_services_pb'
require 'ccoe/v1/generation_service_services_pb'

ATTEMPTS = 3
CODES = GRPC::Core::StatusCodes.constants.to_h { |name| [GRPC::Core::StatusCodes.const_get(name), name] }

# What the details of an error say besides its code and message: the reason, and a delay in seconds.
def refusal(error)
  reason = delay = nil
  (error.to_rpc_status&.details || []).each do |detail|
    if detail.is(Google::Rpc::ErrorInfo)
      reason = detail.unpack(Google::Rpc::ErrorInfo).reason
    elsif detail.is(Google::Rpc::RetryInfo)
      delay = detail.unpack(Google::Rpc::RetryInfo).retry_delay.to_f
    end
  end
  [reason, delay]
end

def list_experts(catalog, call)
  catalog.list_experts(Ccoe::V1::ListExpertsRequest.new, **call).experts.each do |expert|
    state = expert.state.to_s.delete_prefix('EXPERT_STATE_')
    puts "#{expert.name} #{expert.version} answers #{expert.domain}: #{state}"
  end
end

# Prints an answer as it comes, and yields with every event.
def stream_answer(generation, request, call)
  generation.generate_stream(request, **call).each do |response|
    yield
    case response.event # an event that a newer server adds is left out
    when :started
      puts "[#{response.started.route.domain}]"
    when :delta
      print response.delta.text
    when :finished
      reason = response.finished.reason.to_s.delete_prefix('FINISH_REASON_')
      tokens = response.finished.usage.completion_tokens
      puts "\n[#{tokens} tokens, #{reason}, #{call[:metadata]['x-request-id']}]"
    end
  end
end

def answer(generation, request, call)
  attempt, begun = 1, false
  begin
    stream_answer(generation, request, call) { begun = true }
  rescue GRPC::BadStatus => e
    reason, delay = refusal(e)
    # The server names a delay where a retry can help. The deadline holds for all attempts together.
    raise if begun || delay.nil? || attempt == ATTEMPTS || Time.now + delay > call[:deadline]

    warn "#{reason}, again in #{delay} s"
    sleep delay
    attempt += 1
    retry
  end
end

def main(address, prompt, domain = nil)
  $stdout.sync = true
  options = { channel_args: {
    'grpc.service_config' => '{"loadBalancingConfig": [{"round_robin": {}}]}'
  } }
  target = ["dns:///#{address}", :this_channel_is_insecure]
  call = { deadline: Time.now + 60, metadata: { 'x-request-id' => "example-#{SecureRandom.uuid}" } }
  request = Ccoe::V1::GenerateRequest.new(
    chat: Ccoe::V1::Chat.new(messages: [Ccoe::V1::ChatMessage.new(role: :ROLE_USER, content: prompt)]),
    sampling: Ccoe::V1::SamplingParams.new(temperature: 0),
    stop: Ccoe::V1::StopConditions.new(max_tokens: 32)
  )
  request.domain = domain if domain
  list_experts(Ccoe::V1::CatalogService::Stub.new(*target, **options), call)
  answer(Ccoe::V1::GenerationService::Stub.new(*target, **options), request, call)
rescue GRPC::BadStatus => e
  # Branch on code and reason; the message is for people and may change.
  abort "#{CODES[e.code]} #{refusal(e).first}: #{e.details} (#{call[:metadata]['x-request-id']})"
end

abort 'usage: ask.rb ADDRESS PROMPT [DOMAIN]' unless [2, 3].include?(ARGV.size)
main(*ARGV)
