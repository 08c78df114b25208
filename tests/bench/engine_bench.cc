// Times one engine that owns every layer: prefill of one prompt, and decode at several numbers of
// streams. Prints one line of JSON per measurement. tests/bench/run.py runs it beside the peer.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "common/base/status_macros.h"
#include "common/compute/device.h"
#include "common/model/model.h"
#include "common/runtime/engine.h"

ABSL_FLAG(std::string, model, "", "GGUF file or Hugging Face folder");
ABSL_FLAG(int, threads, 0, "threads that compute; 0: one per core");
ABSL_FLAG(std::string, arithmetic, "i8b32.v2", "i8b32.v2 or exact");
ABSL_FLAG(std::string, kernels, "auto", "auto, or a kernel set by its name");
ABSL_FLAG(int, prefill_tokens, 256, "length of the prompt of the prefill measurement; 0: none");
ABSL_FLAG(std::vector<std::string>, streams, std::vector<std::string>({"1", "8", "16"}),
          "numbers of streams to decode at");
ABSL_FLAG(int, prompt_tokens, 64, "length of each stream's prompt");
ABSL_FLAG(int, decode_tokens, 128, "tokens that each stream decodes");
ABSL_FLAG(int, repetitions, 1, "times that everything is measured");

namespace ccoe {
namespace {

// Notes when each of a group of sessions gave which token.
class Recorder {
 public:
  explicit Recorder(int sessions) : times_(sessions), open_(sessions) {}

  void OnToken(int session, int count) {
    const absl::Time now = absl::Now();
    base::MutexLock lock(&mutex_);
    times_[session].insert(times_[session].end(), count, now);
  }

  void OnEnd(const absl::Status& status) {
    base::MutexLock lock(&mutex_);
    status_.Update(status);
    --open_;
    ended_.Signal();
  }

  absl::Status Wait() {
    base::MutexLock lock(&mutex_);
    while (open_ > 0) ended_.Wait(&mutex_);
    return status_;
  }

  // Of each session, when its tokens came. After Wait.
  std::vector<std::vector<absl::Time>> Take() {
    base::MutexLock lock(&mutex_);
    return std::move(times_);
  }

 private:
  base::Mutex mutex_;
  base::CondVar ended_;
  std::vector<std::vector<absl::Time>> times_ ABSL_GUARDED_BY(mutex_);
  int open_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

class Stream final : public runtime::SessionListener {
 public:
  Stream(int index, Recorder* recorder) : index_(index), recorder_(recorder) {}

  void OnAdmitted() override {}
  void OnDelta(const runtime::Delta& delta) override {
    recorder_->OnToken(index_, static_cast<int>(delta.tokens.size()));
  }
  void OnFinished(const runtime::Finished&) override { recorder_->OnEnd(absl::OkStatus()); }
  void OnFailed(const absl::Status& status) override { recorder_->OnEnd(status); }

 private:
  const int index_;
  Recorder* const recorder_;
};

std::vector<int32_t> RandomPrompt(int tokens, int vocab, std::mt19937* random) {
  std::vector<int32_t> prompt(tokens);
  for (int32_t& id : prompt) id = static_cast<int32_t>((*random)() % vocab);
  return prompt;
}

struct Run {
  absl::Time start;
  std::vector<std::vector<absl::Time>> tokens;  // of each stream, when its tokens came
};

// Opens `streams` sessions at once, greedy, and waits for their ends.
absl::StatusOr<Run> RunStreams(runtime::Engine* engine, const runtime::ExpertKey& expert, int vocab,
                               int streams, int prompt_tokens, int max_tokens) {
  static std::mt19937 random(1);
  Recorder recorder(streams);
  std::vector<std::unique_ptr<Stream>> listeners;
  Run run;
  std::vector<runtime::SessionSpec> specs(streams);
  for (runtime::SessionSpec& spec : specs) {
    spec.expert = expert;
    spec.prompt = RandomPrompt(prompt_tokens, vocab, &random);
    spec.stop.max_tokens = max_tokens;
    spec.stop.ignore_end_of_generation = true;
  }
  run.start = absl::Now();
  for (int i = 0; i < streams; ++i) {
    listeners.push_back(std::make_unique<Stream>(i, &recorder));
    const auto opened = engine->Open(std::move(specs[i]), listeners.back().get());
    if (!opened.ok()) recorder.OnEnd(opened.status());
  }
  CCOE_RETURN_IF_ERROR(recorder.Wait());
  run.tokens = recorder.Take();
  return run;
}

// Tokens per second of all streams together while all of them decode: from the first token of the
// last stream to get one until the first stream ends.
double DecodeRate(const Run& run) {
  absl::Time begin = absl::InfinitePast();
  absl::Time end = absl::InfiniteFuture();
  for (const auto& times : run.tokens) {
    begin = std::max(begin, times.front());
    end = std::min(end, times.back());
  }
  int64_t count = 0;
  for (const auto& times : run.tokens) {
    count += std::count_if(times.begin(), times.end(),
                           [&](absl::Time time) { return time > begin && time <= end; });
  }
  return static_cast<double>(count) / absl::ToDoubleSeconds(end - begin);
}

absl::Status Measure(runtime::Engine* engine, const runtime::ExpertKey& expert, int vocab) {
  if (const int tokens = absl::GetFlag(FLAGS_prefill_tokens); tokens > 0) {
    CCOE_ASSIGN_OR_RETURN(Run run, RunStreams(engine, expert, vocab, 1, tokens, 1));
    const double seconds = absl::ToDoubleSeconds(run.tokens[0].front() - run.start);
    std::printf("{\"test\": \"prefill\", \"tokens\": %d, \"tokens_per_second\": %.2f}\n", tokens,
                tokens / seconds);
    std::fflush(stdout);
  }
  for (const std::string& text : absl::GetFlag(FLAGS_streams)) {
    int streams = 0;
    if (!absl::SimpleAtoi(text, &streams) || streams < 1) {
      return absl::InvalidArgumentError(absl::StrCat("--streams: not a number: ", text));
    }
    // One token more than are decoded: the first comes out of prefill.
    CCOE_ASSIGN_OR_RETURN(
        Run run, RunStreams(engine, expert, vocab, streams, absl::GetFlag(FLAGS_prompt_tokens),
                            absl::GetFlag(FLAGS_decode_tokens) + 1));
    std::printf("{\"test\": \"decode\", \"streams\": %d, \"tokens_per_second\": %.2f}\n", streams,
                DecodeRate(run));
    std::fflush(stdout);
  }
  return absl::OkStatus();
}

absl::StatusOr<compute::CpuKernels> ParseKernels(const std::string& name) {
  if (name == "auto") return compute::CpuKernels::kAuto;
  std::string known = "auto";
  for (const compute::CpuKernels kernels : compute::SupportedCpuKernels()) {
    if (compute::CpuKernelsName(kernels) == name) return kernels;
    known += ", " + std::string(compute::CpuKernelsName(kernels));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--kernels: no set '", name, "' here; there are ", known));
}

absl::Status Main() {
  compute::CpuOptions cpu;
  CCOE_ASSIGN_OR_RETURN(cpu.arithmetic, compute::ParseArithmetic(absl::GetFlag(FLAGS_arithmetic)));
  CCOE_ASSIGN_OR_RETURN(cpu.kernels, ParseKernels(absl::GetFlag(FLAGS_kernels)));
  cpu.threads = absl::GetFlag(FLAGS_threads);
  CCOE_ASSIGN_OR_RETURN(auto device, compute::NewCpuDevice(cpu));
  const std::string description = device->Describe();
  CCOE_ASSIGN_OR_RETURN(auto model, model::Model::Load(absl::GetFlag(FLAGS_model)));
  const int vocab = model->config().vocab;

  runtime::EngineOptions options;
  options.model = std::move(model);
  options.device = std::move(device);
  options.prefix_cache = false;
  CCOE_ASSIGN_OR_RETURN(auto engine, runtime::Engine::Create(std::move(options)));
  runtime::ExpertKey general;
  for (const runtime::ExpertInfo& expert : engine->Experts()) {
    if (expert.key.name == runtime::kGeneralExpert) general = expert.key;
  }
  std::printf("{\"test\": \"info\", \"device\": \"%s\", \"arithmetic\": \"%s\"}\n",
              description.c_str(), absl::GetFlag(FLAGS_arithmetic).c_str());
  CCOE_RETURN_IF_ERROR(RunStreams(engine.get(), general, vocab, 1, 32, 8).status());  // warm up
  for (int i = 0; i < absl::GetFlag(FLAGS_repetitions); ++i) {
    CCOE_RETURN_IF_ERROR(Measure(engine.get(), general, vocab));
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace ccoe

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage(
      "Times one engine that owns every layer; prints one line of JSON per measurement.\n"
      "  ccoe_bench --model MODEL [--threads N] [--streams 1,8,16]");
  absl::ParseCommandLine(argc, argv);
  const absl::Status status = ccoe::Main();
  if (!status.ok()) std::fprintf(stderr, "error: %s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
