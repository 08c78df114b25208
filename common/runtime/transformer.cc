#include "common/runtime/transformer.h"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>

#include "common/base/check.h"
#include "common/base/status_macros.h"

namespace ccoe::runtime {
namespace {

// Rows whose logits are in memory at a time.
constexpr int kLogitRows = 64;

bool HasOwnLayer(const ExpertWeights* expert, int layer) {
  return expert != nullptr && !expert->layers.empty() && layer >= expert->attach_depth;
}

bool HasAdapter(const ExpertWeights* expert, int layer) {
  return expert != nullptr && !expert->lora.empty() && layer >= expert->attach_depth;
}

bool Passes(const RowSpan& span, int layer) {
  return span.layer_begin <= layer && layer < span.layer_end;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::Create(const Options& options) {
  std::unique_ptr<Transformer> transformer(new Transformer(options));
  CCOE_RETURN_IF_ERROR(transformer->Allocate());
  return transformer;
}

absl::Status Transformer::Allocate() {
  const model::ModelConfig& config = *options_.config;
  compute::Device& device = *options_.device;
  const size_t rows = options_.max_rows;
  const int attention_width = config.heads * config.head_dim;
  const int kv_width = config.kv_heads * config.head_dim;
  CCOE_ASSIGN_OR_RETURN(rope_,
                        device.NewRopeTable(config.InverseFrequencies(), options_.max_context));
  CCOE_ASSIGN_OR_RETURN(
      input_, device.NewMatmulInput(options_.max_rows,
                                    std::max({config.hidden, attention_width, config.ffn})));
  CCOE_ASSIGN_OR_RETURN(x_, device.Allocate(rows * config.hidden));
  CCOE_ASSIGN_OR_RETURN(q_, device.Allocate(rows * attention_width));
  CCOE_ASSIGN_OR_RETURN(k_, device.Allocate(rows * kv_width));
  CCOE_ASSIGN_OR_RETURN(v_, device.Allocate(rows * kv_width));
  CCOE_ASSIGN_OR_RETURN(attention_, device.Allocate(rows * attention_width));
  CCOE_ASSIGN_OR_RETURN(gate_, device.Allocate(rows * config.ffn));
  CCOE_ASSIGN_OR_RETURN(up_, device.Allocate(rows * config.ffn));
  CCOE_ASSIGN_OR_RETURN(head_, device.Allocate(size_t{kLogitRows} * config.hidden));
  CCOE_ASSIGN_OR_RETURN(logits_, device.Allocate(size_t{kLogitRows} * config.vocab));
  return absl::OkStatus();
}

void Transformer::Run(const BaseWeights& base, absl::Span<const RowSpan> spans,
                      const StepSink& sink) {
  Arrange(spans);
  int first = options_.config->layers;
  int last = 0;
  for (const RowSpan& span : spans) {
    first = std::min(first, span.layer_begin);
    last = std::max(last, span.layer_end);
  }
  for (int layer = first; layer < last; ++layer) {
    EnterRows(base, spans, layer);
    for (const Group& group : GroupsOf(base, spans, layer)) RunGroup(group, layer);
    LeaveRows(spans, layer + 1, sink);
  }
  EmitLogits(base, spans, sink);
}

// Puts spans that use the same weights next to one another, so that most layers are one group.
void Transformer::Arrange(absl::Span<const RowSpan> spans) {
  order_.resize(spans.size());
  std::iota(order_.begin(), order_.end(), 0);
  std::stable_sort(order_.begin(), order_.end(), [&](int a, int b) {
    const auto key = [&](const RowSpan& span) {
      const bool own_layers = span.expert != nullptr && !span.expert->layers.empty();
      return std::make_tuple(-span.layer_end, own_layers, span.expert, span.layer_begin);
    };
    return key(spans[a]) < key(spans[b]);
  });
  row_begin_.assign(spans.size(), 0);
  kv_rows_.clear();
  for (int i : order_) {
    row_begin_[i] = static_cast<int>(kv_rows_.size());
    for (int row = 0; row < spans[i].rows; ++row) {
      kv_rows_.push_back({spans[i].position + row, nullptr});
    }
  }
  CCOE_CHECK(kv_rows_.size() <= static_cast<size_t>(options_.max_rows));
}

std::vector<Transformer::Group> Transformer::GroupsOf(const BaseWeights& base,
                                                      absl::Span<const RowSpan> spans, int layer) {
  std::vector<Group> groups;
  for (int i : order_) {
    const RowSpan& span = spans[i];
    if (!Passes(span, layer)) continue;
    const int begin = row_begin_[i];
    const int32_t* table = span.blocks->Table(layer - span.table_begin);
    for (int row = 0; row < span.rows; ++row) kv_rows_[begin + row].pages = table;

    const LayerWeights* weights = HasOwnLayer(span.expert, layer)
                                      ? &span.expert->layers[layer - span.expert->attach_depth]
                                      : &base.Layer(layer);
    if (groups.empty() || groups.back().weights != weights ||
        groups.back().row_begin + groups.back().rows != begin) {
      groups.push_back({weights, begin, 0, {}});
    }
    Group& group = groups.back();
    group.rows += span.rows;
    if (!HasAdapter(span.expert, layer)) continue;
    if (!group.experts.empty() && group.experts.back().expert == span.expert &&
        group.experts.back().row_begin + group.experts.back().rows == begin) {
      group.experts.back().rows += span.rows;
    } else {
      group.experts.push_back({span.expert, begin, span.rows});
    }
  }
  return groups;
}

void Transformer::EnterRows(const BaseWeights& base, absl::Span<const RowSpan> spans, int layer) {
  const compute::Tensor x = x_->AsTensor(options_.max_rows, options_.config->hidden);
  for (size_t i = 0; i < spans.size(); ++i) {
    const RowSpan& span = spans[i];
    if (span.layer_begin != layer) continue;
    const compute::Tensor rows = x.Rows(row_begin_[i], span.rows);
    if (span.states != nullptr) {
      options_.device->Upload({span.states, static_cast<size_t>(rows.rows) * rows.cols}, rows);
    } else {
      options_.device->Embed(*base.embedding, {span.tokens, static_cast<size_t>(span.rows)}, rows);
    }
  }
}

void Transformer::LeaveRows(absl::Span<const RowSpan> spans, int layer, const StepSink& sink) {
  for (size_t i = 0; i < spans.size(); ++i) {
    const auto& wanted = spans[i].state_layers;
    if (spans[i].layer_begin < layer &&
        std::find(wanted.begin(), wanted.end(), layer) != wanted.end()) {
      sink.on_states(static_cast<int>(i), layer, Download(spans[i], row_begin_[i]));
    }
  }
}

absl::Span<const float> Transformer::Download(const RowSpan& span, int row_begin) {
  const compute::Tensor x = x_->AsTensor(options_.max_rows, options_.config->hidden);
  host_.resize(static_cast<size_t>(span.rows) * x.cols);
  options_.device->Download(x.Rows(row_begin, span.rows), absl::MakeSpan(host_));
  return host_;
}

void Transformer::RunGroup(const Group& group, int layer) {
  const model::ModelConfig& config = *options_.config;
  compute::Device& device = *options_.device;
  const compute::Tensor x =
      x_->AsTensor(options_.max_rows, config.hidden).Rows(group.row_begin, group.rows);
  const compute::Tensor gate = gate_->AsTensor(group.rows, config.ffn);
  const compute::Tensor up = up_->AsTensor(group.rows, config.ffn);

  device.PrepareRmsNorm(x, group.weights->input_norm->data(), config.rms_epsilon, input_.get());
  Attend(group, layer);
  Project(group, layer, kO, {x}, compute::Store::kAdd);
  device.PrepareRmsNorm(x, group.weights->post_attention_norm->data(), config.rms_epsilon,
                        input_.get());
  Project(group, layer, kGate, {gate, up}, compute::Store::kSet);
  device.PrepareSwiGlu(gate, up, input_.get());
  Project(group, layer, kDown, {x}, compute::Store::kAdd);
}

// From the normed residual in input_ to the heads' outputs in input_.
void Transformer::Attend(const Group& group, int layer) {
  const model::ModelConfig& config = *options_.config;
  compute::Device& device = *options_.device;
  const LayerWeights& weights = *group.weights;
  const compute::Tensor q = q_->AsTensor(group.rows, config.heads * config.head_dim);
  const compute::Tensor k = k_->AsTensor(group.rows, config.kv_heads * config.head_dim);
  const compute::Tensor v = v_->AsTensor(group.rows, config.kv_heads * config.head_dim);
  const compute::Tensor attention = attention_->AsTensor(group.rows, q.cols);
  const auto rows = absl::MakeConstSpan(kv_rows_).subspan(group.row_begin, group.rows);

  Project(group, layer, kQ, {q, k, v}, compute::Store::kSet);
  if (weights.q_norm != nullptr) {
    device.HeadRmsNorm(q, config.head_dim, weights.q_norm->data(), config.rms_epsilon);
    device.HeadRmsNorm(k, config.head_dim, weights.k_norm->data(), config.rms_epsilon);
  }
  device.Rope(q, config.head_dim, *rope_, rows);
  device.Rope(k, config.head_dim, *rope_, rows);
  device.WriteKv(k, v, rows, &options_.pool->pages());
  device.Attention(q, rows, options_.pool->pages(), attention);
  device.Prepare(attention, input_.get());
}

// Projections first, first + 1, ... of the rows in input_, one for each output, with the adapters
// of the rows that have them.
void Transformer::Project(const Group& group, int layer, int first,
                          absl::Span<const compute::Tensor> outputs, compute::Store store) {
  std::vector<compute::MatmulTarget> targets;
  std::vector<compute::LoraSegment> segments;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const int projection = first + static_cast<int>(i);
    compute::Buffer* bias = projection <= kV ? group.weights->biases[projection].get() : nullptr;
    targets.push_back({group.weights->projections[projection].get(), outputs[i],
                       bias == nullptr ? nullptr : bias->data(), store});
    for (const Segment& segment : group.experts) {
      const auto& lora =
          segment.expert->lora[layer - segment.expert->attach_depth].projections[projection];
      if (!lora.has_value()) continue;
      segments.push_back({segment.row_begin - group.row_begin, segment.rows, lora->a.get(),
                          lora->b.get(), lora->scale, outputs[i]});
    }
  }
  options_.device->Matmul(*input_, targets);
  if (!segments.empty()) options_.device->Lora(*input_, segments);
}

void Transformer::EmitLogits(const BaseWeights& base, absl::Span<const RowSpan> spans,
                             const StepSink& sink) {
  const model::ModelConfig& config = *options_.config;
  compute::Device& device = *options_.device;
  struct Wanted {
    int span;
    int row;  // of the span
  };
  std::vector<Wanted> wanted;
  std::vector<int> batch_rows;
  const HeadWeights* head = nullptr;
  const auto flush = [&] {
    if (wanted.empty()) return;
    const int rows = static_cast<int>(wanted.size());
    const compute::Tensor states = head_->AsTensor(rows, config.hidden);
    const compute::Tensor logits = logits_->AsTensor(rows, config.vocab);
    device.GatherRows(x_->AsTensor(options_.max_rows, config.hidden), batch_rows, states);
    device.PrepareRmsNorm(states, head->norm->data(), config.rms_epsilon, input_.get());
    device.Matmul(*input_, {{head->projection.get(), logits, nullptr, compute::Store::kSet}});
    host_.resize(static_cast<size_t>(rows) * config.vocab);
    device.Download(logits, absl::MakeSpan(host_));
    for (int i = 0; i < rows; ++i) {
      sink.on_logits(
          wanted[i].span, wanted[i].row,
          absl::MakeConstSpan(host_).subspan(static_cast<size_t>(i) * config.vocab, config.vocab));
    }
    wanted.clear();
    batch_rows.clear();
  };
  for (int i : order_) {
    const RowSpan& span = spans[i];
    if (span.layer_end != config.layers || span.logit_rows == 0) continue;
    const HeadWeights* own =
        span.expert != nullptr && span.expert->head.has_value() ? &*span.expert->head : &*base.head;
    if (own != head) flush();
    head = own;
    for (int row = span.rows - span.logit_rows; row < span.rows; ++row) {
      if (wanted.size() == kLogitRows) flush();
      wanted.push_back({i, row});
      batch_rows.push_back(row_begin_[i] + row);
    }
  }
  flush();
}

}  // namespace ccoe::runtime
