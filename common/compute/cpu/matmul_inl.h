#pragma once

#include "common/compute/cpu/kernels.h"

// The parts of a matrix product that are the same for every vector type of sixteen lanes.
namespace ccoe::compute::cpu {

// Whether any of T neighbouring rows' blocks is fine.
template <int T>
inline bool AnyFine(const uint8_t* fine) {
  uint8_t rows[T];
  __builtin_memcpy(rows, fine, T);
  uint8_t any = 0;
#pragma GCC unroll 16
  for (int t = 0; t < T; ++t) any |= rows[t];
  return any != 0;
}

// Ends the sums of 16 outputs of one row.
template <class V>
inline void Finish(const MatmulTask& task, int row, int panel, V v) {
  const int output = panel * kPanelRows;
  const int n = PanelOutputs(task.outputs, panel);
  float* y = task.y + static_cast<size_t>(row) * task.y_stride + output;
  v = V::Add(v, task.bias != nullptr ? V::LoadFirst(task.bias + output, n) : V::Zero());
  if (task.epilogue == Epilogue::kAdd) {
    v = V::Add(V::LoadFirst(y, n), v);
  } else if (task.epilogue == Epilogue::kAddScaled) {
    v = V::Fma(V::Set(task.scale), v, V::LoadFirst(y, n));
  }
  V::StoreFirst(v, y, n);
}

template <class V, base::DType F>
inline V LoadWeights(const std::byte* panel, size_t index) {
  if constexpr (F == base::DType::kF32) {
    return V::Load(reinterpret_cast<const float*>(panel) + index);
  } else if constexpr (F == base::DType::kF16) {
    return V::Load(reinterpret_cast<const uint16_t*>(panel) + index);
  } else {
    return V::LoadBf16(reinterpret_cast<const uint16_t*>(panel) + index);
  }
}

// 16 outputs x T rows of a product with weights in a float format.
template <class V, base::DType F, int T>
void FloatTile(const MatmulTask& task, int panel_index, int row) {
  const std::byte* panel = task.panels + static_cast<size_t>(panel_index) * task.panel_bytes;
  const size_t lanes = static_cast<size_t>(PanelOutputs(task.outputs, panel_index));
  const float* x = task.x + static_cast<size_t>(row) * task.x_stride;
  V acc[T];
  for (int t = 0; t < T; ++t) acc[t] = V::Zero();
  for (int b = 0; b < task.blocks; ++b) {
    V partial[T];
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) partial[t] = V::Zero();
    const int end = task.inputs < (b + 1) * kBlock ? task.inputs : (b + 1) * kBlock;
    for (int i = b * kBlock; i < end; ++i) {
      const V w = LoadWeights<V, F>(panel, static_cast<size_t>(i) * lanes);
#pragma GCC unroll 16
      for (int t = 0; t < T; ++t) {
        partial[t] = V::Fma(w, V::Set(x[static_cast<size_t>(t) * task.x_stride + i]), partial[t]);
      }
    }
#pragma GCC unroll 16
    for (int t = 0; t < T; ++t) acc[t] = V::Add(acc[t], partial[t]);
  }
  for (int t = 0; t < T; ++t) Finish<V>(task, row + t, panel_index, acc[t]);
}

template <class V, base::DType F>
void FloatMatmul(const MatmulTask& task) {
  constexpr int kRows = V::kFloatRows;
  for (int panel = task.panel_begin; panel < task.panel_end; ++panel) {
    int row = task.row_begin;
    for (; row + kRows <= task.row_end; row += kRows) FloatTile<V, F, kRows>(task, panel, row);
    if constexpr (kRows > 4) {
      for (; row + 4 <= task.row_end; row += 4) FloatTile<V, F, 4>(task, panel, row);
    }
    for (; row < task.row_end; ++row) FloatTile<V, F, 1>(task, panel, row);
  }
}

// Calls Kernel<F>::Run(task) for the task's quantised format.
template <template <base::DType> class Kernel, class V>
void DispatchMatmul(const MatmulTask& task) {
  switch (task.format) {
    case base::DType::kF32:
      return FloatMatmul<V, base::DType::kF32>(task);
    case base::DType::kF16:
      return FloatMatmul<V, base::DType::kF16>(task);
    case base::DType::kBF16:
      return FloatMatmul<V, base::DType::kBF16>(task);
    case base::DType::kQ8_0:
      return Kernel<base::DType::kQ8_0>::Run(task);
    case base::DType::kQ4_0:
      return Kernel<base::DType::kQ4_0>::Run(task);
    case base::DType::kQ4_1:
      return Kernel<base::DType::kQ4_1>::Run(task);
    case base::DType::kQ5_0:
      return Kernel<base::DType::kQ5_0>::Run(task);
    case base::DType::kQ5_1:
      return Kernel<base::DType::kQ5_1>::Run(task);
    case base::DType::kQ4_K:
      return Kernel<base::DType::kQ4_K>::Run(task);
    case base::DType::kQ5_K:
      return Kernel<base::DType::kQ5_K>::Run(task);
    case base::DType::kQ6_K:
      return Kernel<base::DType::kQ6_K>::Run(task);
  }
}

}  // namespace ccoe::compute::cpu
