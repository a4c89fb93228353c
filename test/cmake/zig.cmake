# Cross-compile for a Cortex-M4 with zig's clang and lld: -DZIG=<path of the zig command>.
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR arm)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ZIG)
set(CMAKE_C_COMPILER "${ZIG}" cc)
set(CMAKE_C_FLAGS_INIT "--target=thumb-freestanding-${ABI} -mcpu=cortex_m4 -fno-sanitize=all")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ABI)
# CMake takes archivers without arguments only.
set(CMAKE_C_ARCHIVE_CREATE "\"${ZIG}\" ar qc <TARGET> <OBJECTS>")
set(CMAKE_C_ARCHIVE_FINISH "\"${ZIG}\" ranlib <TARGET>")
