// Lists a server's experts and streams one answer. build.sh says how it is built and run.

import ccoe.v1.*;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.util.Iterator;
import java.util.UUID;
import java.util.concurrent.TimeUnit;

public final class Ask {
  private static final int ATTEMPTS = 3;

  // What the details of an error say besides its code and message.
  private record Refusal(String reason, long delayMs) {
    static Refusal of(StatusRuntimeException error) throws InvalidProtocolBufferException {
      String reason = "";
      long delayMs = -1;
      var status = StatusProto.fromThrowable(error);
      for (Any detail : status.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          reason = detail.unpack(ErrorInfo.class).getReason();
        } else if (detail.is(RetryInfo.class)) {
          var delay = detail.unpack(RetryInfo.class).getRetryDelay();
          delayMs = delay.getSeconds() * 1000 + delay.getNanos() / 1000000;
        }
      }
      return new Refusal(reason, delayMs);
    }
  }

  private static void listExperts(CatalogServiceGrpc.CatalogServiceBlockingStub catalog) {
    for (Expert expert : catalog.listExperts(ListExpertsRequest.getDefaultInstance()).getExpertsList()) {
      System.out.printf("%s %s answers %s: %s%n", expert.getName(), expert.getVersion(), expert.getDomain(),
          expert.getState().name().replace("EXPERT_STATE_", ""));
    }
  }

  private static void print(GenerateStreamResponse response, String id) {
    switch (response.getEventCase()) {
      case STARTED -> System.out.printf("[%s]%n", response.getStarted().getRoute().getDomain());
      case DELTA -> System.out.print(response.getDelta().getText());
      case FINISHED -> System.out.printf("%n[%d tokens, %s, %s]%n",
          response.getFinished().getUsage().getCompletionTokens(),
          response.getFinished().getReason().name().replace("FINISH_REASON_", ""), id);
      default -> { } // an event that a newer server adds is left out
    }
    System.out.flush();
  }

  private static void answer(GenerationServiceGrpc.GenerationServiceBlockingStub generation,
      GenerateRequest request, String id) throws Exception {
    for (int attempt = 1;; attempt++) {
      boolean begun = false;
      try {
        Iterator<GenerateStreamResponse> events = generation.generateStream(request);
        while (events.hasNext()) {
          var event = events.next();
          begun = true;
          print(event, id);
        }
        return;
      } catch (StatusRuntimeException error) {
        var refusal = Refusal.of(error);
        // The server names a delay where a retry can help.
        if (begun || refusal.delayMs() < 0 || attempt == ATTEMPTS) throw error;
        System.err.printf("%s, again in %d ms%n", refusal.reason(), refusal.delayMs());
        Thread.sleep(refusal.delayMs());
      }
    }
  }

  public static void main(String[] args) throws Exception {
    if (args.length != 2 && args.length != 3) {
      System.err.println("usage: Ask ADDRESS PROMPT [DOMAIN]");
      System.exit(2);
    }
    String id = "example-" + UUID.randomUUID();
    var headers = new Metadata();
    headers.put(Metadata.Key.of("x-request-id", Metadata.ASCII_STRING_MARSHALLER), id);
    ManagedChannel channel = ManagedChannelBuilder.forTarget("dns:///" + args[0]).usePlaintext()
        .defaultLoadBalancingPolicy("round_robin")
        .intercept(MetadataUtils.newAttachHeadersInterceptor(headers)).build();
    var user = ChatMessage.newBuilder().setRole(Role.ROLE_USER).setContent(args[1]);
    var request = GenerateRequest.newBuilder().setChat(Chat.newBuilder().addMessages(user))
        .setSampling(SamplingParams.newBuilder().setTemperature(0))
        .setStop(StopConditions.newBuilder().setMaxTokens(32));
    if (args.length == 3) request.setDomain(args[2]);
    try {
      // The deadline holds for all attempts together.
      listExperts(CatalogServiceGrpc.newBlockingStub(channel).withDeadlineAfter(10, TimeUnit.SECONDS));
      answer(GenerationServiceGrpc.newBlockingStub(channel).withDeadlineAfter(60, TimeUnit.SECONDS),
          request.build(), id);
    } catch (StatusRuntimeException error) {
      // Branch on code and reason; the message is for people and may change.
      System.err.printf("%s %s: %s (%s)%n", error.getStatus().getCode(), Refusal.of(error).reason(),
          error.getStatus().getDescription(), id);
      System.exit(1);
    } finally {
      channel.shutdownNow();
    }
  }
}
