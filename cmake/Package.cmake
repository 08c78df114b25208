# The exported package: `find_package(ccoe)` gives the libraries as ccoe::base, ccoe::runtime ..., and
# `find_package(ccoe COMPONENTS api)` what clients are built with alone: ccoe::proto, ccoe::proto_google.

include(CMakePackageConfigHelpers)

set(CCOE_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/ccoe)
install(EXPORT ccoe NAMESPACE ccoe:: DESTINATION ${CCOE_PACKAGE_DIR} FILE ccoe-targets.cmake)
if(CCOE_BUILD_SERVICES)
  install(EXPORT ccoe-api NAMESPACE ccoe:: DESTINATION ${CCOE_PACKAGE_DIR}
    FILE ccoe-api-targets.cmake COMPONENT api)
endif()
configure_package_config_file(
  ${CMAKE_CURRENT_LIST_DIR}/ccoe-config.cmake.in ${CMAKE_BINARY_DIR}/ccoe-config.cmake
  INSTALL_DESTINATION ${CCOE_PACKAGE_DIR})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/ccoe-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/ccoe-config.cmake ${CMAKE_BINARY_DIR}/ccoe-config-version.cmake
  DESTINATION ${CCOE_PACKAGE_DIR} COMPONENT api)
