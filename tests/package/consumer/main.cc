#include "common/compute/device.h"
#include "common/model/model.h"
#include "common/runtime/engine.h"

// Uses each library: there is no model at that path, and there is a device on every processor.
int main() {
  const auto model = ccoe::model::Model::Load("/nonexistent.gguf");
  const auto device = ccoe::compute::NewCpuDevice({});
  auto* volatile create = &ccoe::runtime::Engine::Create;
  return !model.ok() && device.ok() && create != nullptr ? 0 : 1;
}
