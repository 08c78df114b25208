#include "tests/integration/split_harness.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace ccoe::testing {

rpc::LinkIdentity IdentityOf(const model::Model& model, compute::Arithmetic arithmetic, int begin,
                             int end) {
  const model::ModelConfig& config = model.config();
  rpc::LinkIdentity identity;
  identity.base_digest = model.digest();
  identity.arithmetic = std::string(compute::ArithmeticName(arithmetic));
  identity.layers = config.layers;
  identity.hidden = config.hidden;
  identity.vocab = config.vocab;
  identity.layer_begin = begin;
  identity.layer_end = end == 0 ? config.layers : end;
  identity.max_context = config.context;
  identity.node = "test";
  return identity;
}

std::unique_ptr<ExpertSide> ExpertSide::Start(const std::shared_ptr<const model::Model>& model,
                                              const std::vector<std::string>& packages, int begin,
                                              int64_t credit_bytes, const std::string& listen) {
  auto side = std::make_unique<ExpertSide>();
  EngineSetup setup;
  setup.cpu.threads = 1;
  setup.layer_begin = begin;
  side->engine = MakeEngine(model, setup);
  for (const std::string& name : packages) {
    CCOE_CHECK(side->engine->AddExpert(TinyPackage(name)).ok());
  }
  rpc::LinkServerOptions links;
  links.identity = IdentityOf(*model, setup.cpu.arithmetic, begin, 0);
  links.engine = side->engine.get();
  links.credit_bytes = credit_bytes;
  links.base_begin = begin;
  for (const runtime::ExpertInfo& info : side->engine->Experts()) {
    links.experts.push_back(rpc::DescribeExpert(info, ""));
  }
  side->links = std::make_unique<rpc::LinkServer>(std::move(links));
  rpc::ServerOptions server;
  server.listen = listen;
  server.services = {side->links->service()};
  auto started = rpc::Server::Start(std::move(server));
  if (!started.ok()) ABSL_RAW_LOG(FATAL, "%s", started.status().ToString().c_str());
  side->server = *std::move(started);
  return side;
}

ExpertSide::~ExpertSide() {
  server.reset();
  links->Stop();
  engine.reset();
}

std::unique_ptr<runtime::Engine> UnsplitEngine(const std::shared_ptr<const model::Model>& model,
                                               const std::vector<std::string>& packages) {
  EngineSetup setup;
  setup.cpu.threads = 1;
  auto engine = MakeEngine(model, setup);
  for (const std::string& name : packages) {
    CCOE_CHECK(engine->AddExpert(TinyPackage(name)).ok());
  }
  return engine;
}

std::unique_ptr<BackboneSide> BackboneSide::Start(const std::shared_ptr<const model::Model>& model,
                                                  int end, const rpc::LinkIdentity& identity,
                                                  const std::string& address) {
  auto side = std::make_unique<BackboneSide>();
  EngineSetup setup;
  setup.cpu.threads = 1;
  setup.layer_end = end;
  side->engine = MakeEngine(model, setup);
  side->AddLink(identity, address);
  return side;
}

void BackboneSide::AddLink(const rpc::LinkIdentity& identity, const std::string& address) {
  rpc::LinkClientOptions link;
  link.address = address;
  link.identity = identity;
  link.engine = engine.get();
  link.min_backoff = absl::Milliseconds(10);
  link.max_backoff = absl::Milliseconds(100);
  links.push_back(std::make_unique<rpc::LinkClient>(std::move(link)));
}

BackboneSide::~BackboneSide() {
  for (const auto& link : links) link->Stop();
  engine.reset();
}

bool BackboneSide::Connected() const {
  return std::all_of(links.begin(), links.end(), [](const auto& link) {
    return Eventually([&] { return link->GetState().status.ok(); });
  });
}

}  // namespace ccoe::testing
