// Prints docs/errors.md: `ccoe-errors-doc > docs/errors.md` after a change of the table of errors.
#include <iostream>

#include "common/rpc/errors_doc.h"

int main() {
  std::cout << ccoe::rpc::ErrorsMarkdown();
  return std::cout.good() ? 0 : 1;
}
