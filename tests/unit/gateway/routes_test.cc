#include "services/gateway/routes.h"

#include <string>

#include "gtest/gtest.h"
#include "services/gateway/playground.h"

namespace ccoe::gateway {
namespace {

TEST(FindRouteTest, FindsPathsAndTheirVariable) {
  EXPECT_EQ(FindRoute("POST", "/v1/chat/completions").path, "/v1/chat/completions");
  const RouteMatch model = FindRoute("GET", "/v1/models/sql%401.0.0");
  ASSERT_NE(model.route, nullptr);
  EXPECT_EQ(model.rest, "sql@1.0.0");
  EXPECT_EQ(model.path, "/v1/models/:id");
  EXPECT_EQ(FindRoute("GET", "/v1/models/a%2").rest, "a%2");
  EXPECT_EQ(FindRoute("GET", "/v1/models/a%zz").rest, "a%zz");
}

TEST(FindRouteTest, GetAnswersHead) {
  EXPECT_NE(FindRoute("HEAD", "/v1/models").route, nullptr);
  EXPECT_EQ(FindRoute("HEAD", "/v1/completions").route, nullptr);
}

TEST(FindRouteTest, TellsWhatAPathAllows) {
  const RouteMatch wrong = FindRoute("DELETE", "/v1/models");
  EXPECT_EQ(wrong.route, nullptr);
  EXPECT_EQ(wrong.allow, "GET, HEAD, OPTIONS");
  EXPECT_EQ(FindRoute("GET", "/v1/chat/completions").allow, "POST, OPTIONS");
}

TEST(FindRouteTest, EveryFileOfThePageHasAPath) {
  EXPECT_FALSE(Assets().empty());
  for (const Asset& asset : Assets()) {
    const std::string name = asset.name == "index.html" ? "" : std::string(asset.name);
    EXPECT_NE(FindRoute("GET", "/" + name).route, nullptr) << name;
    EXPECT_FALSE(asset.body.empty()) << name;
  }
}

TEST(FindRouteTest, UnknownPathsAreOne) {
  for (const char* path : {"/nothing", "/v1/models/", "", "*", "/v1/models/../x/"}) {
    const RouteMatch match = FindRoute("POST", path);
    EXPECT_EQ(match.route, nullptr) << path;
  }
  EXPECT_EQ(FindRoute("GET", "/nothing").path, "other");
  EXPECT_TRUE(FindRoute("GET", "/nothing").allow.empty());
}

}  // namespace
}  // namespace ccoe::gateway
