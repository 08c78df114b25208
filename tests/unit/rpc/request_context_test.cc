#include "common/rpc/request_context.h"

#include <string>

#include "gtest/gtest.h"

namespace ccoe::rpc {
namespace {

TEST(RequestIdTest, AcceptsTheDocumentedCharacters) {
  EXPECT_TRUE(IsValidRequestId("a"));
  EXPECT_TRUE(IsValidRequestId("req-1.2_3:Z"));
  EXPECT_TRUE(IsValidRequestId(std::string(128, 'x')));
  EXPECT_FALSE(IsValidRequestId(""));
  EXPECT_FALSE(IsValidRequestId(std::string(129, 'x')));
  EXPECT_FALSE(IsValidRequestId("two words"));
  EXPECT_FALSE(IsValidRequestId("line\nbreak"));
  EXPECT_FALSE(IsValidRequestId("\xc3\xa4"));
}

TEST(RequestIdTest, MadeOnesAreValidAndDiffer) {
  const std::string one = MakeRequestId();
  EXPECT_EQ(one.size(), 32u);
  EXPECT_TRUE(IsValidRequestId(one));
  EXPECT_NE(one, MakeRequestId());
}

TEST(TraceparentTest, FollowsW3c) {
  EXPECT_TRUE(IsValidTraceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
  EXPECT_FALSE(IsValidTraceparent(""));
  EXPECT_FALSE(IsValidTraceparent("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
  EXPECT_FALSE(IsValidTraceparent("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
  EXPECT_FALSE(IsValidTraceparent("00-00000000000000000000000000000000-b7ad6b7169203331-01"));
  EXPECT_FALSE(IsValidTraceparent("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"));
  EXPECT_FALSE(IsValidTraceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1"));
}

}  // namespace
}  // namespace ccoe::rpc
