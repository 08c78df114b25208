#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "common/model/expert_package.h"
#include "common/model/model.h"
#include "tests/unit/model/test_files.h"

namespace ccoe::model::test {

// The model that the tiny packages belong to.
inline std::shared_ptr<const Model> Base() {
  static const std::shared_ptr<const Model> model = *Model::Load(TinyFolder("llama"));
  return model;
}

// A copy of a tiny package that a test may change before it loads it.
class PackageCopy {
 public:
  explicit PackageCopy(std::string_view name) {
    std::filesystem::copy(TinyFolder(name), folder_.path(),
                          std::filesystem::copy_options::recursive);
    manifest_ = nlohmann::json::parse(ReadFile(folder_ / "expert.json"));
    manifest_["base"]["digest"] = Base()->digest();
  }
  nlohmann::json& manifest() { return manifest_; }
  std::string folder() const { return folder_.path().string(); }
  std::string File(std::string_view name) const { return folder_ / name; }
  absl::StatusOr<std::shared_ptr<const ExpertPackage>> Load() const {
    WriteFile(folder_ / "expert.json", manifest_.dump());
    return ExpertPackage::Load(folder());
  }
  absl::Status LoadStatus() const { return Load().status(); }
  absl::Status CheckStatus() const {
    const auto package = Load();
    return package.ok() ? (*package)->CheckAgainst(*Base()) : package.status();
  }

 private:
  TempFolder folder_;
  nlohmann::json manifest_;
};

// A safetensors file that a test reads, changes and writes back.
class TensorFile {
 public:
  explicit TensorFile(std::string path) : path_(std::move(path)) {
    const std::string file = ReadFile(path_);
    uint64_t header_bytes;
    std::memcpy(&header_bytes, file.data(), sizeof(header_bytes));
    header_ = nlohmann::json::parse(file.substr(8, header_bytes));
    data_ = file.substr(8 + header_bytes);
  }
  nlohmann::json& header() { return header_; }
  // The bytes of a tensor.
  char* Data(std::string_view name) { return data_.data() + Begin(name); }
  std::string Bytes(std::string_view name) const {
    const auto& offsets = header_[std::string(name)]["data_offsets"];
    return data_.substr(offsets[0], offsets[1].get<size_t>() - offsets[0].get<size_t>());
  }
  // Another last bit in the first value: the least change there is.
  void Touch(std::string_view name) { *Data(name) ^= 1; }
  void Add(std::string_view name, std::string_view dtype, const nlohmann::json& shape,
           std::string_view bytes) {
    header_[std::string(name)] = {{"dtype", dtype},
                                  {"shape", shape},
                                  {"data_offsets", {data_.size(), data_.size() + bytes.size()}}};
    data_ += bytes;
  }
  void Save() const { WriteFile(path_, Safetensors(header_.dump(), data_)); }

 private:
  size_t Begin(std::string_view name) const {
    return header_.at(std::string(name))["data_offsets"][0];
  }

  const std::string path_;
  nlohmann::json header_;
  std::string data_;
};

}  // namespace ccoe::model::test
