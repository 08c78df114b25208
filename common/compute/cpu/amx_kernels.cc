#include <immintrin.h>

#include "common/compute/cpu/amx_matmul_inl.h"
#include "common/compute/cpu/kernels.h"

namespace ccoe::compute::cpu {
namespace {

// The operand of LDTILECFG, palette 1.
struct alignas(64) TileConfig {
  uint8_t palette;
  uint8_t start_row;
  uint8_t reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64);

// Tile 0: sums [16][16]; tile 1: activations [16][32]; tile 2: weights [8][16][4].
struct HardwareTiles {
  static void Begin() {
    TileConfig config = {};
    config.palette = 1;
    config.rows[0] = 16;
    config.row_bytes[0] = 64;
    config.rows[1] = 16;
    config.row_bytes[1] = 32;
    config.rows[2] = 8;
    config.row_bytes[2] = 64;
    // GCC 12's _tile_loadconfig claims to read 8 bytes only; without this the other stores go.
    asm volatile("" ::"m"(config) : "memory");
    _tile_loadconfig(&config);
  }
  static void End() { _tile_release(); }

  static void Multiply(const int8_t* a, const std::byte* b, int32_t* c) {
    _tile_zero(0);
    _tile_loadd(1, a, 32);
    _tile_loadd(2, b, 64);
    _tile_dpbsud(0, 1, 2);
    _tile_stored(0, c, 64);
    // The store's operand does not name the memory that it writes.
    asm volatile("" ::: "memory");
  }
};

}  // namespace

const KernelTable& AmxKernels() {
  static const KernelTable kTable = [] {
    KernelTable table = Avx512VnniKernels();
    table.kernels = CpuKernels::kAmx;
    table.matmul = AmxProducts<HardwareTiles>::Matmul;
    return table;
  }();
  return kTable;
}

}  // namespace ccoe::compute::cpu
