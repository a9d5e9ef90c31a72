// C++ exceptions through several frames with destructors, rethrown, nested, of several types.
// The unwinder searches the loaded libraries: @libraries
// @flags -O1
#include "frame.h"
#include <stdexcept>
#include <string>

namespace {
struct Guard {
    uint64_t id;
    ~Guard() { mix(0, id); }
};

__attribute__((noinline)) void thrower(uint64_t depth, uint64_t kind) {
    Guard guard{depth};
    if (depth != 0) {
        thrower(depth - 1, kind);
        mix(31, depth);
        return;
    }
    switch (kind % 3) {
    case 0: throw kind;
    case 1: throw std::runtime_error("runtime");
    default: throw std::string("text");
    }
}

__attribute__((noinline)) void middle(uint64_t kind) {
    try {
        thrower(5, kind);
    } catch (const std::string &text) {
        mix(1, text.size());
        throw;
    } catch (const std::runtime_error &error) {
        mix(2, static_cast<uint64_t>(error.what()[0]));
        throw std::logic_error("logic");
    }
}
} // namespace

extern "C" void pass(uint64_t round) {
    for (uint64_t kind = round; kind < round + 3; kind++) {
        try {
            middle(kind);
        } catch (uint64_t number) {
            mix(3, number);
        } catch (const std::exception &error) {
            mix(4, static_cast<uint64_t>(error.what()[1]));
        } catch (...) {
            mix(5, 1);
        }
    }
}
