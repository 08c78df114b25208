# Writes OUTPUT, a C++ source that is the content of FILES as an array of Asset: run with
# cmake -DOUTPUT=... "-DFILES=a;b" -P EmbedFiles.cmake.

set(source "#include \"services/gateway/playground.h\"\n\n#include <array>\n\nnamespace ccoe::gateway {\nnamespace {\n\n")
set(entries "")
set(count 0)
foreach(path IN LISTS FILES)
  get_filename_component(name "${path}" NAME)
  file(READ "${path}" bytes HEX)
  file(SHA256 "${path}" hash)
  string(REGEX REPLACE "(..)" "'\\\\x\\1'," bytes "${bytes}")
  string(APPEND source "constexpr char kFile${count}[] = {${bytes}};\n")
  string(APPEND entries "    {\"${name}\", \"\\\"${hash}\\\"\", {kFile${count}, sizeof(kFile${count})}},\n")
  math(EXPR count "${count} + 1")
endforeach()
string(APPEND source "\nconstexpr std::array<Asset, ${count}> kAssets = {{\n${entries}}};\n\n}  // namespace\n\nabsl::Span<const Asset> Assets() { return kAssets; }\n\n}  // namespace ccoe::gateway\n")
file(WRITE "${OUTPUT}" "${source}")
