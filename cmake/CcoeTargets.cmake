# What every target of the project shares: the language, the warnings, the sanitizers, the layout of
# the build tree, and the functions that define libraries, programs and tests.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

add_library(ccoe_options INTERFACE)
add_library(ccoe::options ALIAS ccoe_options)
target_include_directories(ccoe_options INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/ccoe>)
target_compile_features(ccoe_options INTERFACE cxx_std_20)
# -ffp-contract=off: a fused multiply-add is written where the arithmetic names one, nowhere else.
target_compile_options(ccoe_options INTERFACE
  $<BUILD_INTERFACE:-Wall -Wextra -Werror -ffp-contract=off>
  $<BUILD_INTERFACE:$<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>>)
if(CCOE_SANITIZE)
  target_compile_options(ccoe_options INTERFACE
    $<BUILD_INTERFACE:-fsanitize=${CCOE_SANITIZE} -fno-omit-frame-pointer>)
  target_link_options(ccoe_options INTERFACE $<BUILD_INTERFACE:-fsanitize=${CCOE_SANITIZE}>)
endif()
set_target_properties(ccoe_options PROPERTIES EXPORT_NAME options)
install(TARGETS ccoe_options EXPORT ccoe)

# ccoe_add_library(base SOURCES a.cc HEADERS a.h DEPS absl::status)
# defines ccoe_base with the alias ccoe::base, and installs it.
function(ccoe_add_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;HEADERS;DEPS;PRIVATE_DEPS" ${ARGN})
  set(target ccoe_${name})
  if(ARG_SOURCES)
    add_library(${target} STATIC ${ARG_SOURCES} ${ARG_HEADERS})
    target_link_libraries(${target} PUBLIC ccoe::options ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS})
  else()
    add_library(${target} INTERFACE)
    target_link_libraries(${target} INTERFACE ccoe::options ${ARG_DEPS})
  endif()
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  add_library(ccoe::${name} ALIAS ${target})
  install(TARGETS ${target} EXPORT ccoe)
  file(RELATIVE_PATH folder ${PROJECT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR})
  foreach(header IN LISTS ARG_HEADERS)
    cmake_path(GET header PARENT_PATH subfolder)
    install(FILES ${header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/ccoe/${folder}/${subfolder})
  endforeach()
endfunction()

# Every test program, and nothing that no test links.
add_custom_target(tests)

# ccoe_add_test(NAME thread_pool_test SOURCES thread_pool_test.cc LIBS ccoe::compute LABELS unit)
function(ccoe_add_test)
  cmake_parse_arguments(ARG "" "NAME;TIMEOUT" "SOURCES;LIBS;LABELS" ${ARGN})
  add_executable(${ARG_NAME} ${ARG_SOURCES})
  target_link_libraries(${ARG_NAME} PRIVATE ${ARG_LIBS} GTest::gmock GTest::gtest_main)
  target_compile_definitions(${ARG_NAME} PRIVATE
    CCOE_TEST_SOURCE_DIR="${PROJECT_SOURCE_DIR}/tests")
  add_dependencies(tests ${ARG_NAME})
  set_target_properties(${ARG_NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  if(CCOE_SANITIZE)
    math(EXPR ARG_TIMEOUT "5 * ${ARG_TIMEOUT}")
  endif()
  add_test(NAME ${ARG_NAME} COMMAND ${ARG_NAME})
  set_tests_properties(${ARG_NAME} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT})
endfunction()
