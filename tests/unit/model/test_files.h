#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"

namespace ccoe::model::test {

// Appends a value's bytes as the formats have them (little-endian).
template <typename T>
void Put(std::string* out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out->append(bytes, sizeof(T));
}

inline absl::Span<const std::byte> AsBytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

// Writes GGUF files, right or wrong ones.
class GgufWriter {
 public:
  void String(std::string_view key, std::string_view value) {
    Key(key, 8);
    PutString(&values_, value);
  }
  void U32(std::string_view key, uint32_t value) {
    Key(key, 4);
    Put(&values_, value);
  }
  void F32(std::string_view key, float value) {
    Key(key, 6);
    Put(&values_, value);
  }
  void Bool(std::string_view key, uint8_t value) {
    Key(key, 7);
    Put(&values_, value);
  }
  void Strings(std::string_view key, const std::vector<std::string>& values) {
    Key(key, 9);
    Put(&values_, uint32_t{8});
    Put(&values_, uint64_t{values.size()});
    for (const std::string& value : values) PutString(&values_, value);
  }
  void Ints(std::string_view key, const std::vector<int32_t>& values) {
    Key(key, 9);
    Put(&values_, uint32_t{5});
    Put(&values_, uint64_t{values.size()});
    for (const int32_t value : values) Put(&values_, value);
  }
  // `dimensions` as GGUF orders them: columns first. `type` is a GGML type.
  void Tensor(std::string_view name, const std::vector<uint64_t>& dimensions, uint32_t type,
              std::string_view data) {
    PutString(&entries_, name);
    Put(&entries_, static_cast<uint32_t>(dimensions.size()));
    for (const uint64_t dimension : dimensions) Put(&entries_, dimension);
    Put(&entries_, type);
    data_.resize((data_.size() + 31) / 32 * 32);
    Put(&entries_, uint64_t{data_.size()});
    data_ += data;
    ++tensor_count_;
  }
  std::string Finish() const {
    std::string file = "GGUF";
    Put(&file, uint32_t{3});
    Put(&file, tensor_count_);
    Put(&file, value_count_);
    file += values_ + entries_;
    file.resize((file.size() + 31) / 32 * 32);
    return file + data_;
  }

 private:
  static void PutString(std::string* out, std::string_view value) {
    Put(out, uint64_t{value.size()});
    *out += value;
  }
  void Key(std::string_view key, uint32_t type) {
    PutString(&values_, key);
    Put(&values_, type);
    ++value_count_;
  }

  uint64_t tensor_count_ = 0;
  uint64_t value_count_ = 0;
  std::string values_;
  std::string entries_;
  std::string data_;
};

inline std::string Safetensors(std::string header, std::string_view data) {
  while (header.size() % 8 != 0) header += ' ';
  std::string file;
  Put(&file, uint64_t{header.size()});
  return file + header + std::string(data);
}

inline std::string FloatBytes(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

inline std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void WriteFile(const std::filesystem::path& path, std::string_view content) {
  std::ofstream(path, std::ios::binary) << content;
}

// A folder that goes away with its owner.
class TempFolder {
 public:
  TempFolder() {
    std::string path = (std::filesystem::temp_directory_path() / "ccoe-test-XXXXXX").string();
    path_ = mkdtemp(path.data());
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::string operator/(std::string_view name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

// A tests/goldens/tiny folder.
inline std::string TinyFolder(std::string_view name) {
  return std::string(CCOE_TEST_SOURCE_DIR) + "/goldens/tiny/" + std::string(name);
}

}  // namespace ccoe::model::test
