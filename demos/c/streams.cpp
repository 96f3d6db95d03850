// Two streams of one model, step by step, in C++: states are bytes that the program owns, so a
// snapshot is a copy, and going back is a copy too.
//
//     ./streams < frames          frames of the model's own size, bgr24
//
// Prints the best label of each frame, once forwards and once again from the middle on.
#include <shiftedge/shiftedge.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <vector>

namespace {

void check(int status) {
    if (status != SHIFTEDGE_OK) {
        throw std::runtime_error(shiftedge_last_error());
    }
}

struct Model {
    Model() { check(shiftedge_open(nullptr, &handle)); }
    ~Model() { shiftedge_close(handle); }
    Model(const Model &) = delete;
    Model &operator=(const Model &) = delete;

    shiftedge_model *handle = nullptr;
};

// One stream's states; a copy is a snapshot.
class State {
  public:
    State() : bytes_(allocate()) { std::fill_n(bytes_.get(), shiftedge_state_size(), 0); }
    State(const State &other) : bytes_(allocate()) {
        std::copy_n(other.bytes_.get(), shiftedge_state_size(), bytes_.get());
    }
    State &operator=(const State &) = delete;

    // The index of the best label.
    long step(const Model &model, const std::vector<unsigned char> &frame) {
        const shiftedge_spec &spec = *shiftedge_get_spec();
        std::vector<float> logits(static_cast<std::size_t>(spec.classes));
        check(shiftedge_step(model.handle, bytes_.get(), frame.data(), 3 * spec.width,
                             logits.data()));
        return std::max_element(logits.begin(), logits.end()) - logits.begin();
    }

  private:
    struct Free {
        void operator()(unsigned char *bytes) const { std::free(bytes); }
    };

    static unsigned char *allocate() {
        void *bytes = std::aligned_alloc(SHIFTEDGE_STATE_ALIGNMENT, shiftedge_state_size());
        if (bytes == nullptr) {
            throw std::bad_alloc();
        }
        return static_cast<unsigned char *>(bytes);
    }

    std::unique_ptr<unsigned char, Free> bytes_;
};

void run() {
    const shiftedge_spec &spec = *shiftedge_get_spec();
    std::vector<std::vector<unsigned char>> frames;
    std::vector<unsigned char> frame(3U * static_cast<unsigned>(spec.height) *
                                     static_cast<unsigned>(spec.width));
    while (std::fread(frame.data(), 1, frame.size(), stdin) == frame.size()) {
        frames.push_back(frame);
    }
    Model model;
    State forwards;
    std::size_t middle = frames.size() / 2;
    for (std::size_t i = 0; i < middle; i++) {
        std::printf("%zu %s\n", i, spec.labels[forwards.step(model, frames[i])]);
    }
    State again = forwards;
    for (State *state : {&forwards, &again}) {
        for (std::size_t i = middle; i < frames.size(); i++) {
            std::printf("%zu %s\n", i, spec.labels[state->step(model, frames[i])]);
        }
    }
}

} // namespace

int main() {
    try {
        run();
    } catch (const std::exception &error) {
        std::fprintf(stderr, "streams: %s\n", error.what());
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
