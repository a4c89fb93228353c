// Drives a core from reset until it stores its status to address 0, with memories that grant
// every request at once and answer in the next cycle.
#include <cstdint>
#include <cstring>

#include "Vcore.h"

namespace {

struct Memory {
  uint32_t start, size, writable;
  uint8_t *bytes;
};

// Mirrored by _Result in simulation.py.
struct Result {
  uint32_t stopped, status, fault_address, fault_pc;
};
enum { FINISHED = 0, FAULTED = 1, TIMED_OUT = 2 };

class Bus {
 public:
  Bus(Memory *memories, uint32_t count) : memories_(memories), count_(count) {}

  // Where the word of `address` is kept, or null where there is no memory.
  uint8_t *word(uint32_t address, bool write) {
    address &= ~3u;
    for (uint32_t i = 0; i < count_; ++i) {
      Memory &memory = memories_[i];
      if (address - memory.start < memory.size) {
        return !write || memory.writable ? memory.bytes + (address - memory.start) : nullptr;
      }
    }
    return nullptr;
  }

 private:
  Memory *memories_;
  uint32_t count_;
};

}  // namespace

// `regions[i]` is the region that begins with the instruction at `code_start + 2 * i`, or 0 where
// none does. `cycles` and `instructions` are counted per region; 0 is what runs before the first.
extern "C" void run(Memory *memories, uint32_t memory_count, uint32_t boot_address,
                    uint32_t code_start, uint32_t code_halfwords, const uint16_t *regions,
                    uint64_t cycle_limit, uint64_t *cycles, uint64_t *instructions,
                    Result *result) {
  Bus bus(memories, memory_count);
  VerilatedContext context;
  Vcore core(&context);
  *result = {TIMED_OUT, 0, 0, 0};

  core.boot_address_i = boot_address;
  core.rst_ni = 0;
  for (int i = 0; i < 4; ++i) {
    core.clk_i = i & 1;
    core.eval();
  }
  core.rst_ni = 1;
  core.clk_i = 0;
  core.eval();

  uint32_t region = 0;
  for (uint64_t cycle = 0; cycle < cycle_limit; ++cycle) {
    // Outputs as they are at the end of the cycle, which the rising edge takes.
    const bool fetch = core.instr_req_o, access = core.data_req_o;
    uint32_t fetched = 0, loaded = 0;
    if (core.done_o) {
      const uint32_t halfword = (core.pc_o - code_start) / 2;
      if (halfword < code_halfwords && regions[halfword]) region = regions[halfword];
      ++instructions[region];
    }
    ++cycles[region];
    if (fetch) {
      // A prefetch may run past the end of a memory; the core faults if it executes what is there.
      const uint8_t *word = bus.word(core.instr_addr_o, false);
      if (word) std::memcpy(&fetched, word, 4);
    }
    if (access) {
      const uint32_t address = core.data_addr_o;
      if (address == 0 && core.data_we_o) {
        *result = {FINISHED, core.data_wdata_o, 0, 0};
        return;
      }
      uint8_t *word = bus.word(address, core.data_we_o);
      if (!word) {
        *result = {FAULTED, 0, address, core.pc_o};
        return;
      }
      if (core.data_we_o) {
        uint8_t data[4];
        std::memcpy(data, &core.data_wdata_o, 4);
        for (int i = 0; i < 4; ++i) {
          if (core.data_be_o >> i & 1) word[i] = data[i];
        }
      } else {
        std::memcpy(&loaded, word, 4);
      }
    }
    core.clk_i = 1;
    core.eval();
    // A register of the bus: what answers a request is there after the edge.
    core.instr_rvalid_i = fetch;
    core.instr_rdata_i = fetched;
    core.data_rvalid_i = access;
    core.data_rdata_i = loaded;
    core.clk_i = 0;
    core.eval();
  }
}
