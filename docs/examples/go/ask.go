// Lists a server's experts and streams one answer. build.sh says how it is built and run.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	pb "github.com/ccoe/ccoe/gen/go/ccoe/v1"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const attempts = 3

// refusal returns what the details of an error say besides its code and message.
func refusal(err error) (reason string, delay time.Duration) {
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = detail.Reason
		case *errdetails.RetryInfo:
			delay = detail.RetryDelay.AsDuration()
		}
	}
	return reason, delay
}

func listExperts(ctx context.Context, connection *grpc.ClientConn) error {
	list, err := pb.NewCatalogServiceClient(connection).ListExperts(ctx, &pb.ListExpertsRequest{})
	for _, expert := range list.GetExperts() {
		fmt.Printf("%s %s answers %s: %s\n", expert.Name, expert.Version, expert.Domain,
			strings.TrimPrefix(expert.State.String(), "EXPERT_STATE_"))
	}
	return err
}

// streamAnswer prints an answer as it comes. begun: whether any of it came.
func streamAnswer(ctx context.Context, connection *grpc.ClientConn, request *pb.GenerateRequest,
	id string) (begun bool, err error) {
	stream, err := pb.NewGenerationServiceClient(connection).GenerateStream(ctx, request)
	if err != nil {
		return false, err
	}
	for {
		response, err := stream.Recv()
		if err == io.EOF {
			return begun, nil
		} else if err != nil {
			return begun, err
		}
		begun = true
		switch event := response.Event.(type) { // an event that a newer server adds is left out
		case *pb.GenerateStreamResponse_Started:
			fmt.Printf("[%s]\n", event.Started.Route.Domain)
		case *pb.GenerateStreamResponse_Delta:
			fmt.Print(event.Delta.Text)
		case *pb.GenerateStreamResponse_Finished:
			fmt.Printf("\n[%d tokens, %s, %s]\n", event.Finished.Usage.CompletionTokens,
				strings.TrimPrefix(event.Finished.Reason.String(), "FINISH_REASON_"), id)
		}
	}
}

func ask(address, prompt, domain, id string) error {
	connection, err := grpc.Dial("dns:///"+address, grpc.WithInsecure(),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`))
	if err != nil {
		return err
	}
	defer connection.Close()
	// The deadline holds for all attempts together.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "x-request-id", id)
	if err := listExperts(ctx, connection); err != nil {
		return err
	}
	user := &pb.ChatMessage{Role: pb.Role_ROLE_USER, Content: prompt}
	request := &pb.GenerateRequest{
		Input:    &pb.GenerateRequest_Chat{Chat: &pb.Chat{Messages: []*pb.ChatMessage{user}}},
		Sampling: &pb.SamplingParams{Temperature: proto.Float32(0)},
		Stop:     &pb.StopConditions{MaxTokens: proto.Int32(32)},
	}
	if domain != "" {
		request.Target = &pb.GenerateRequest_Domain{Domain: domain}
	}
	for attempt := 1; ; attempt++ {
		begun, err := streamAnswer(ctx, connection, request, id)
		reason, delay := refusal(err)
		// The server names a delay where a retry can help.
		if err == nil || begun || delay == 0 || attempt == attempts {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s, again in %s\n", reason, delay)
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return err
		}
	}
}

func main() {
	if len(os.Args) != 3 && len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: ask ADDRESS PROMPT [DOMAIN]")
		os.Exit(2)
	}
	id := fmt.Sprintf("example-%d", time.Now().UnixNano())
	if err := ask(os.Args[1], os.Args[2], strings.Join(os.Args[3:], ""), id); err != nil {
		// Branch on code and reason; the message is for people and may change.
		reason, _ := refusal(err)
		fmt.Fprintf(os.Stderr, "%s %s: %s (%s)\n", code.Code(status.Code(err)), reason,
			status.Convert(err).Message(), id)
		os.Exit(1)
	}
}
