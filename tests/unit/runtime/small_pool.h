#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "common/runtime/kv_pool.h"

namespace ccoe::runtime {

// A fixture with a pool of so many pages.
class SmallPoolTest : public ::testing::Test {
 protected:
  explicit SmallPoolTest(int pages) : pages_(pages) {}

  void SetUp() override {
    auto device = compute::NewCpuDevice({.kernels = compute::CpuKernels::kScalar, .threads = 1});
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    auto one = device_->NewKvPages({2, 16}, 1);
    ASSERT_TRUE(one.ok()) << one.status();
    auto pool = KvPool::Create(*device_, {2, 16}, pages_ * (*one)->page_bytes());
    ASSERT_TRUE(pool.ok()) << pool.status();
    pool_ = *std::move(pool);
  }

 private:
  const int pages_;
  std::unique_ptr<compute::Device> device_;

 protected:
  std::unique_ptr<KvPool> pool_;
};

}  // namespace ccoe::runtime
