#include "services/cli/terminal.h"

#include "gtest/gtest.h"

namespace ccoe::cli {
namespace {

TEST(PrintableTest, KeepsTextOfAnyLanguage) {
  EXPECT_EQ(Printable("a\tb\nc"), "a\tb\nc");
  EXPECT_EQ(Printable("Grüße, 世界 🙂"), "Grüße, 世界 🙂");
}

TEST(PrintableTest, DropsWhatSteersATerminal) {
  EXPECT_EQ(Printable("\x1b[2Jgone\r\x07"), "[2Jgone");
  EXPECT_EQ(Printable("\xC2\x9B"
                      "31m"),
            "31m");  // the one-character form of ESC [
  EXPECT_EQ(Printable("\x7F\b"), "");
}

TEST(PrintableTest, KeepsLatinCharactersBesideTheControls) {
  EXPECT_EQ(Printable("\xC2\xA0\xC2\xBF"), "\xC2\xA0\xC2\xBF");
}

}  // namespace
}  // namespace ccoe::cli
