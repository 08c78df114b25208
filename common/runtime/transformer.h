#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/compute/device.h"
#include "common/model/config.h"
#include "common/runtime/kv_pool.h"
#include "common/runtime/weights.h"

namespace ccoe::runtime {

// Consecutive rows of one session in one step, and the layers that they run through here.
struct RowSpan {
  int position = 0;  // absolute position of the first row
  int rows = 0;
  int layer_begin = 0;
  int layer_end = 0;
  const ExpertWeights* expert = nullptr;  // null: the base model's own layers
  const KvBlocks* blocks = nullptr;       // its tables begin at layer table_begin
  int table_begin = 0;
  const int32_t* tokens = nullptr;  // [rows], of spans that begin at the embedding
  const float* states = nullptr;    // [rows, hidden], of spans that begin elsewhere
  int logit_rows = 0;               // of the last rows, logits are wanted (at the last layer)
  // After so many layers each, from layer_begin + 1 to layer_end, the rows' states are wanted.
  absl::InlinedVector<int, 4> state_layers;
};

// Receives what a step computed. Valid during the call alone.
struct StepSink {
  // Rows of spans[span] after one of their state layers: [rows, hidden].
  std::function<void(int span, int layer, absl::Span<const float> states)> on_states;
  // Logits [vocab] of row `row` of spans[span].
  std::function<void(int span, int row, absl::Span<const float> logits)> on_logits;
};

// Runs batches of rows of many sessions through the layers of a range. Every row's result depends
// on its own session alone: neither the other rows nor how a session is cut into spans change a bit
// of it. Used by one thread; borrows the device, the pool and all weights.
class Transformer {
 public:
  struct Options {
    const model::ModelConfig* config = nullptr;
    compute::Device* device = nullptr;
    KvPool* pool = nullptr;
    int max_rows = 256;   // of one step
    int max_context = 0;  // positions
  };
  static absl::StatusOr<std::unique_ptr<Transformer>> Create(const Options& options);

  // The sum of the spans' rows is at most max_rows. `base` holds every base layer that they pass.
  void Run(const BaseWeights& base, absl::Span<const RowSpan> spans, const StepSink& sink);

 private:
  // Neighbouring spans that use the same weights in a layer, as rows of the batch.
  struct Segment {
    const ExpertWeights* expert = nullptr;
    int row_begin = 0;
    int rows = 0;
  };
  struct Group {
    const LayerWeights* weights = nullptr;
    int row_begin = 0;
    int rows = 0;
    std::vector<Segment> experts;  // of rows with adapters in this layer
  };

  explicit Transformer(const Options& options) : options_(options) {}
  absl::Status Allocate();

  void Arrange(absl::Span<const RowSpan> spans);
  std::vector<Group> GroupsOf(const BaseWeights& base, absl::Span<const RowSpan> spans, int layer);
  void EnterRows(const BaseWeights& base, absl::Span<const RowSpan> spans, int layer);
  void LeaveRows(absl::Span<const RowSpan> spans, int layer, const StepSink& sink);
  absl::Span<const float> Download(const RowSpan& span, int row_begin);
  void RunGroup(const Group& group, int layer);
  void Attend(const Group& group, int layer);
  void Project(const Group& group, int layer, int first, absl::Span<const compute::Tensor> outputs,
               compute::Store store);
  void EmitLogits(const BaseWeights& base, absl::Span<const RowSpan> spans, const StepSink& sink);

  const Options options_;
  std::unique_ptr<compute::RopeTable> rope_;
  std::unique_ptr<compute::MatmulInput> input_;
  // [max_rows, ...]: the residual, the heads, the feed-forward's two halves, and rows of the head.
  std::unique_ptr<compute::Buffer> x_, q_, k_, v_, attention_, gate_, up_, head_, logits_;

  // Of the step that runs.
  std::vector<int> order_;               // spans in the batch's order
  std::vector<int> row_begin_;           // of each span, in the batch
  std::vector<compute::KvRow> kv_rows_;  // of each row of the batch
  std::vector<float> host_;              // rows on their way out
};

}  // namespace ccoe::runtime
