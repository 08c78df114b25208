#pragma once

#include "common/base/tensor_view.h"

namespace ccoe::model {

// Whether values are stored one by one as F32, F16 or BF16, not in quantised blocks.
bool IsFloat(const base::TensorView& tensor);

// Whether both have the same shape and, widened to float32, the same bits. Requires IsFloat of
// both.
bool SameValues(const base::TensorView& a, const base::TensorView& b);

// The Frobenius norm of a - b over the larger one of theirs: in [0, 2], 0 only when all values are
// equal; NaN when a value of tensors that differ is infinite or NaN. Requires equal shapes and
// IsFloat of both.
double RelativeDistance(const base::TensorView& a, const base::TensorView& b);

}  // namespace ccoe::model
