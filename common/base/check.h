#pragma once

#include "absl/base/internal/raw_logging.h"
#include "absl/base/optimization.h"

// Dies with the condition's text when an invariant that only a bug can break does not hold. What
// the world can cause is never checked here: that is an absl::Status.
#define CCOE_CHECK(condition)                                  \
  do {                                                         \
    if (ABSL_PREDICT_FALSE(!(condition))) {                    \
      ABSL_RAW_LOG(FATAL, "broken invariant: %s", #condition); \
    }                                                          \
  } while (false)
