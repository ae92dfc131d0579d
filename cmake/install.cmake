# cmake --install: headers, libraries, the program and a CMake package, so that find_package(toroid) gives
# toroid::toroid (the compiler) and toroid::toroid_rt (the runtime).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
install(TARGETS toroid EXPORT toroid LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/toroid DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN *.h)
install(EXPORT toroid NAMESPACE toroid:: FILE toroidTargets.cmake DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/toroid)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/toroidConfig.cmake.in ${PROJECT_BINARY_DIR}/toroidConfig.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/toroid)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/toroidConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/toroidConfig.cmake ${PROJECT_BINARY_DIR}/toroidConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/toroid)
