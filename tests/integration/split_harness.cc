#include "tests/integration/split_harness.h"

#include <grpcpp/impl/service_type.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/check.h"
#include "common/base/status_macros.h"
#include "common/rpc/config.h"
#include "common/rpc/engine_node.h"
#include "services/expert/package_service.h"

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
                                              const ExpertSetup& setup) {
  auto side = std::make_unique<ExpertSide>();
  side->begin = setup.begin;
  EngineSetup engine;
  engine.cpu.threads = 1;
  engine.layer_begin = setup.begin;
  side->engine = MakeEngine(model, engine);
  for (const std::string& name : setup.packages) {
    CCOE_CHECK(side->engine->AddExpert(TinyPackage(name)).ok());
  }
  rpc::LinkServerOptions links;
  links.identity = IdentityOf(*model, engine.cpu.arithmetic, setup.begin, 0);
  links.engine = side->engine.get();
  links.credit_bytes = setup.credit_bytes;
  links.base_begin = setup.begin;
  links.linger = setup.linger;
  links.experts.push_back(rpc::DescribeExpert(side->engine->Experts().front(), ""));  // `general`
  for (const std::string& name : setup.packages) {
    links.experts.push_back(rpc::DescribePackage(*side->engine, *TinyPackage(name)));
  }
  side->links = std::make_unique<rpc::LinkServer>(std::move(links));
  side->packages = expert::NewPackageService(
      {.model = model,
       .engine = side->engine.get(),
       .links = side->links.get(),
       .layer_begin = setup.begin,
       .base_begin = setup.begin,
       .uploads = {.folder = setup.upload_dir, .max_bytes = int64_t{1} << 20}});
  rpc::ServerOptions server;
  server.listen = setup.listen;
  server.services = {side->links->service(), setup.package_service != nullptr
                                                 ? setup.package_service
                                                 : side->packages.get()};
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

absl::Status ExpertSide::Push(const std::string& package) {
  CCOE_RETURN_IF_ERROR(engine->AddExpert(TinyPackage(package)));
  return links->Add(rpc::DescribePackage(*engine, *TinyPackage(package)), begin);
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

std::unique_ptr<backbone::BackboneNode> StartBackboneNode(int layers,
                                                          const std::vector<std::string>& peers,
                                                          const std::string& listen) {
  internal::v1::BackboneConfig config;
  config.mutable_server()->set_listen(listen);
  config.mutable_engine()->set_model(absl::StrCat(CCOE_TEST_SOURCE_DIR, "/goldens/tiny/llama"));
  config.mutable_engine()->set_threads(1);
  config.mutable_engine()->set_kv_cache_mib(16);
  config.set_layers(layers);
  for (const std::string& peer : peers) config.add_peers()->set_address(peer);
  CCOE_CHECK(rpc::CompleteConfig(config.mutable_server()).ok());
  CCOE_CHECK(rpc::CompleteConfig(config.mutable_engine()).ok());
  auto node = backbone::BackboneNode::Start(config);
  if (!node.ok()) ABSL_RAW_LOG(FATAL, "%s", node.status().ToString().c_str());
  return *std::move(node);
}

std::string AddressIn(const std::string& ready_line) {
  const std::string key = "listen=";
  const size_t begin = ready_line.find(key) + key.size();
  return ready_line.substr(begin, ready_line.find_first_of(" \n", begin) - begin);
}

}  // namespace ccoe::testing
