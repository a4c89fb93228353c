# Defines tinymlir_add_model(), and TINYMLIR_EXECUTABLE in the cache.

# First the command that belongs to these files: of the checkout's .venv/, then of the
# environment whose site-packages they are in; then whatever is on the PATH.
find_program(
  TINYMLIR_EXECUTABLE tinymlir
  HINTS "${CMAKE_CURRENT_LIST_DIR}/../../../.venv/bin" "${CMAKE_CURRENT_LIST_DIR}/../../../../../bin"
        "${CMAKE_CURRENT_LIST_DIR}/../../../../Scripts"
  DOC "The tinymlir command"
  NO_CMAKE_FIND_ROOT_PATH)
if(NOT TINYMLIR_EXECUTABLE)
  message(FATAL_ERROR "tinymlir: the 'tinymlir' command is missing: pip install tinymlir, "
                      "or set TINYMLIR_EXECUTABLE to its path")
endif()

#[[
tinymlir_add_model(<target> MODEL <file.onnx> TARGET <core>
                   [NAME <name>] [MAX_RAM <bytes>] [MAX_FLASH <bytes>]
                   [DATA <samples.npz>] [LEVELS exact <loss>...] [OPTIONS <option>...])

Adds the static library <target>, which holds the compiled network and carries the folder of its
header. The model is compiled again when its file changes.

  MODEL      the network; relative to the current source folder
  TARGET     cortex-m4 and so on; `tinymlir targets` lists them
  NAME       prefix of the C names and of the files; <target> as a C identifier unless given
  MAX_RAM, MAX_FLASH
             budgets: the build fails when they cannot be met; K and M mean 1024 and 1024 squared
  DATA       samples to measure accuracy on; the model is compiled again when they change
  LEVELS     several networks in one object: exact, and losses of accuracy that grow (1% 5%)
  OPTIONS    passed to `tinymlir compile` as they are

The target's property TINYMLIR_REPORT is the path of the JSON report.
]]
function(tinymlir_add_model target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "MODEL;TARGET;NAME;MAX_RAM;MAX_FLASH;DATA"
                        "LEVELS;OPTIONS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "tinymlir_add_model: unknown argument '${arg_UNPARSED_ARGUMENTS}'")
  endif()
  foreach(required MODEL TARGET)
    if(NOT arg_${required})
      message(FATAL_ERROR "tinymlir_add_model: ${required} is missing")
    endif()
  endforeach()
  get_filename_component(model "${arg_MODEL}" ABSOLUTE)
  if(NOT EXISTS "${model}")
    message(FATAL_ERROR "tinymlir_add_model: no such file: ${model}")
  endif()
  if(NOT arg_NAME)
    string(MAKE_C_IDENTIFIER "${target}" arg_NAME)
  endif()

  set(options --target "${arg_TARGET}" --name "${arg_NAME}" ${arg_OPTIONS})
  if(arg_MAX_RAM)
    list(APPEND options --max-ram "${arg_MAX_RAM}")
  endif()
  if(arg_MAX_FLASH)
    list(APPEND options --max-flash "${arg_MAX_FLASH}")
  endif()
  if(arg_LEVELS)
    list(JOIN arg_LEVELS "," levels)
    list(APPEND options --levels "${levels}")
  endif()
  set(data)
  if(arg_DATA)
    get_filename_component(data "${arg_DATA}" ABSOLUTE)
    if(NOT EXISTS "${data}")
      message(FATAL_ERROR "tinymlir_add_model: no such file: ${data}")
    endif()
    list(APPEND options --data "${data}")
  endif()

  set(directory "${CMAKE_CURRENT_BINARY_DIR}/${target}.tinymlir")
  set(object "${directory}/${arg_NAME}.o")
  set(header "${directory}/${arg_NAME}.h")
  set(report "${directory}/${arg_NAME}.json")
  add_custom_command(
    OUTPUT "${object}" "${header}" "${report}"
    COMMAND "${TINYMLIR_EXECUTABLE}" compile "${model}" -o "${directory}" ${options}
    DEPENDS "${model}" ${data} "${TINYMLIR_EXECUTABLE}"
    COMMENT "Compiling ${arg_MODEL} for ${arg_TARGET}"
    VERBATIM)
  set_source_files_properties("${object}" PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)

  add_library(${target} STATIC "${object}" "${header}")
  set_target_properties(${target} PROPERTIES LINKER_LANGUAGE C TINYMLIR_REPORT "${report}")
  target_include_directories(${target} PUBLIC "${directory}")
endfunction()
