# needs: cmake ninja g++
# says: caught

cat >CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.10)
project(a CXX)
find_package(Threads REQUIRED)
add_executable(a a.cpp)
target_link_libraries(a Threads::Threads)
END
cat >a.cpp <<'END'
#include <iostream>
#include <stdexcept>
#include <thread>
int main() {
    std::thread thread([] {
        try {
            throw std::runtime_error("caught");
        } catch (std::exception &error) {
            std::cout << error.what() << std::endl;
        }
    });
    thread.join();
}
END
cmake -S . -B build -G Ninja >/dev/null && cmake --build build >/dev/null && build/a
